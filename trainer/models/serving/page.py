"""The server's web page for trying out a package. It loads nothing from other servers, and reads the package from `/package`."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

_STYLE: Final = """
:root { color-scheme: light dark; --line: light-dark(#d5d9e0, #3a404b); --fill: light-dark(#f4f6f9, #1d2128);
  --text: light-dark(#1c2430, #e6e9ee); --quiet: light-dark(#5b6675, #9aa4b2); --strong: light-dark(#2457c5, #7aa5ff);
  --bad: light-dark(#a3261c, #ff9a8f); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 44rem; padding: 1.25rem 1rem 3rem; font: 16px/1.5 system-ui, sans-serif; color: var(--text);
  background: light-dark(#fff, #14171c); }
h1 { font-size: 1.3rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .3rem 0; } .quiet { color: var(--quiet); font-size: .9rem; overflow-wrap: anywhere; }
section { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin-top: 1rem; background: var(--fill); }
button, input, textarea { font: inherit; color: inherit; border: 1px solid var(--line); border-radius: .4rem;
  padding: .45rem .7rem; max-width: 100%; background: light-dark(#fff, #14171c); }
button { cursor: pointer; } button.main { background: var(--strong); color: light-dark(#fff, #10131a); border-color: transparent; }
textarea { width: 100%; margin-top: .7rem; min-height: 9rem; font-family: ui-monospace, monospace; font-size: .85rem; }
canvas { display: block; width: min(100%, 17.5rem); touch-action: none; border: 1px solid var(--line); cursor: crosshair; }
.row { display: flex; gap: .6rem; flex-wrap: wrap; align-items: center; margin-top: .7rem; }
.drop { border: 2px dashed var(--line); border-radius: .5rem; padding: 1rem; text-align: center; }
.drop.over { border-color: var(--strong); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .7rem; }
label { display: block; font-size: .9rem; color: var(--quiet); } label input { width: 100%; color: var(--text); }
.bar { display: grid; grid-template-columns: minmax(4rem, 9rem) 1fr 3.5rem; gap: .6rem; align-items: center; margin: .25rem 0; }
.bar span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .bar b { font-weight: 500; text-align: right; }
progress { width: 100%; height: .8rem; accent-color: var(--strong); }
h2 { font-size: 1.6rem; margin: 0 0 .4rem; overflow-wrap: anywhere; } .bad { color: var(--bad); }
pre { overflow: auto; margin: 0; font-size: .85rem; } img { max-width: 100%; max-height: 14rem; display: block; margin: .6rem auto 0; }
"""
_SCRIPT: Final = """
const at = id => document.getElementById(id);
const make = (tag, text, more) => Object.assign(document.createElement(tag), {textContent: text ?? '', ...more});
const headers = extra => at('token').value ? {...extra, authorization: 'Bearer ' + at('token').value} : extra;
let about = null, turn = 0;

async function ask(path, options = {}) {
  const response = await fetch(path, {...options, headers: headers(options.headers ?? {})});
  const content = await response.json();
  if (!response.ok) throw Object.assign(new Error(content.error), {hint: content.hint, status: response.status});
  return content;
}

function show(prediction) {
  const out = at('prediction');
  out.replaceChildren();
  const scores = prediction.scores ?? prediction.shares;
  const title = prediction.class ?? prediction.labels?.join(', ');
  if (title !== undefined) out.append(make('h2', title || 'no label'));
  for (const [name, score] of Object.entries(scores ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 10)) {
    const bar = make('div', '', {className: 'bar'});
    bar.append(make('span', name, {title: name}), make('progress', '', {value: score, max: 1}), make('b', score.toFixed(3)));
    out.append(bar);
  }
  if (!scores) out.append(make('pre', JSON.stringify(prediction, null, 1).slice(0, 20000)));
}

function fail(fault) {
  at('result').hidden = false;
  at('prediction').replaceChildren(make('p', fault.message, {className: 'bad'}), make('p', fault.hint ?? '', {className: 'quiet'}));
}

async function send(body, type) {
  const mine = ++turn, begin = performance.now();
  try {
    const {predictions} = await ask('/predict', {method: 'POST', body, headers: {'content-type': type}});
    if (mine !== turn) return;
    at('result').hidden = false;
    show(predictions[0]);
    const more = predictions.length > 1 ? `, the first of ${predictions.length} predictions` : '';
    at('took').textContent = `${(performance.now() - begin).toFixed(0)} ms${more}`;
  } catch (fault) { if (mine === turn) { at('took').textContent = ''; fail(fault); } }
}

function files(parent, word, accept, preview) {
  const drop = make('div', '', {className: 'drop'});
  const input = make('input', '', {type: 'file', accept, id: 'file'});
  const picture = make('img', '', {alt: '', hidden: true});
  const take = file => {
    if (!file) return;
    if (preview) { picture.src = URL.createObjectURL(file); picture.hidden = false; }
    send(file, file.type || 'application/octet-stream');
  };
  input.onchange = () => take(input.files[0]);
  drop.ondragover = event => { event.preventDefault(); drop.classList.add('over'); };
  drop.ondragleave = () => drop.classList.remove('over');
  drop.ondrop = event => { event.preventDefault(); drop.classList.remove('over'); take(event.dataTransfer.files[0]); };
  drop.append(make('p', word), input, picture);
  parent.append(drop);
}

function drawing(parent, [height, width], use) {
  const canvas = make('canvas', '', {width: 280, height: Math.round(280 * height / width), id: 'drawing'});
  const pen = canvas.getContext('2d'), dark = make('input', '', {type: 'checkbox', id: 'dark'});
  const clear = () => { pen.fillStyle = dark.checked ? '#fff' : '#000'; pen.fillRect(0, 0, canvas.width, canvas.height); };
  const spot = event => { const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height]; };
  canvas.onpointerdown = event => { canvas.setPointerCapture(event.pointerId); pen.beginPath(); pen.moveTo(...spot(event)); };
  canvas.onpointermove = event => { if (!event.buttons) return;
    Object.assign(pen, {lineWidth: 24, lineCap: 'round', lineJoin: 'round', strokeStyle: dark.checked ? '#000' : '#fff'});
    pen.lineTo(...spot(event)); pen.stroke(); };
  canvas.onpointerup = () => {
    const small = make('canvas', '', {width, height}), target = small.getContext('2d');
    target.imageSmoothingQuality = 'high';
    target.drawImage(canvas, 0, 0, width, height);
    use(small, target);
  };
  dark.onchange = clear;
  clear();
  const row = make('div', '', {className: 'row'}), button = make('button', 'Clear', {onclick: clear});
  row.append(button, dark, make('label', 'dark on light', {htmlFor: 'dark'}));
  parent.append(make('p', 'or draw one:', {className: 'quiet'}), canvas, row);
}

const png = small => small.toBlob(blob => send(blob, 'image/png'));

function pixels({name, shape, range: [low, high]}) {
  const [height, width] = shape.slice(-2);
  return (_, pen) => {
    const {data} = pen.getImageData(0, 0, width, height);
    const value = (y, x) => low + (high - low) * data[4 * (y * width + x)] / 255;
    const rows = Array.from({length: height}, (_, y) => Array.from({length: width}, (_, x) => value(y, x)));
    send(JSON.stringify({inputs: {[name]: [shape.length === 3 ? [rows] : rows]}}), 'application/json');
  };
}

function drawable() {
  const [input, ...others] = about.inputs, {shape, range, dtype} = input;
  const sizes = shape.length === 3 && shape[0] === 1 ? shape.slice(1) : shape;
  const fits = sizes.length === 2 && sizes.every(length => length !== 'any' && length >= 4 && length <= 64);
  return !others.length && fits && range && range[0] < range[1] && dtype.startsWith('float') ? input : null;
}

function table(parent) {
  const inputs = new Set(about.inputs.map(each => each.name)), reader = about.dataset.reader;
  const grid = make('div', '', {className: 'grid'});
  const fields = Object.entries(reader.fields).filter(([name]) => inputs.has(name));
  const cells = fields.flatMap(([, field]) => field.column).map(name => {
    const label = make('label', name), cell = make('input', '', {name, id: 'column-' + name});
    const values = reader.columns?.[name]?.values ?? [];
    if (values.length) {
      const list = make('datalist', '', {id: 'values-' + name});
      list.append(...values.slice(0, 500).map(value => make('option', '', {value})));
      cell.setAttribute('list', list.id);
      label.append(list);
    }
    label.append(cell);
    grid.append(label);
    return cell;
  });
  const button = make('button', 'Predict', {className: 'main'});
  button.onclick = () => {
    const values = cells.map(cell => [cell.name, cell.value === '' ? null : cell.value]);
    send(JSON.stringify({rows: [Object.fromEntries(values)]}), 'application/json');
  };
  const row = make('div', '', {className: 'row'});
  row.append(button, make('span', 'An empty field is a missing value.', {className: 'quiet'}));
  parent.append(grid, row);
}

const many = length => length === 'any' ? 1 : length;
const zeros = ([length, ...rest], value) =>
  length === undefined ? value : Array.from({length: many(length)}, () => zeros(rest, value));

function tensors(parent) {
  const sample = Object.fromEntries(about.inputs.map(each => [each.name, [zeros(each.shape, each.dtype === 'bool' ? false : 0)]]));
  const text = make('textarea', JSON.stringify({inputs: sample}), {id: 'json', spellcheck: false, ariaLabel: 'inputs as JSON'});
  const button = make('button', 'Predict', {className: 'main', onclick: () => send(text.value, 'application/json')});
  const row = make('div', '', {className: 'row'});
  row.append(button);
  parent.append(text, row);
}

function build() {
  const parent = at('input'), kind = about.dataset?.reader.kind;
  parent.replaceChildren();
  parent.hidden = false;
  if (kind === 'images') {
    files(parent, 'Drop a picture here, or choose one', 'image/*', true);
    const {mode, size} = about.dataset.reader;
    if (mode === 'L' && size && Math.max(...size) <= 64) drawing(parent, size, png);
  } else if (kind === 'table') table(parent);
  else {
    if (about.inputs.length === 1) files(parent, 'Drop a .npy file here, or choose one', '.npy', false);
    const input = drawable();
    if (input) drawing(parent, input.shape.slice(-2), pixels(input));
    tensors(parent);
  }
}

async function start() {
  at('login').hidden = true;
  try {
    const [package_, certificate, model] = await Promise.all([ask('/package'), ask('/certificate'), ask('/openapi.json')]);
    about = package_;
    at('name').textContent = document.title = model.info.title;
    at('digest').textContent = model.info.version;
    at('certificate').textContent = certificate.holds ? 'The certificate holds: the predictions match those of the run.'
      : 'The package has no valid certificate: its predictions may differ from those of the run.';
    at('certificate').className = certificate.holds ? 'quiet' : 'bad';
    build();
  } catch (fault) {
    if (fault.status === 401) at('login').hidden = false; else fail(fault);
  }
}
at('enter').onsubmit = event => { event.preventDefault(); start(); };
start();
"""
PAGE: Final = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reprise</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<header><h1 id="name">Reprise</h1><p class="quiet" id="digest"></p><p class="quiet" id="certificate"></p></header>
<section id="login" hidden><form id="enter"><label>Token <input id="token" type="password" autocomplete="off"></label>
<div class="row"><button class="main">Continue</button></div></form></section>
<section id="input" hidden></section>
<section id="result" hidden aria-live="polite"><div id="prediction"></div><p class="quiet" id="took"></p></section>
<script>{_SCRIPT}</script>
</body>
</html>
""".encode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY: Final = (
    f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}; connect-src 'self'; img-src blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The content security policy of the page: its own script and style, and this server."""
