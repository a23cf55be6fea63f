"""The options of `reprise data publish` and `reprise data import` that describe a dataset."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from trainer.cli.data.publish_table import add_table_options

if TYPE_CHECKING:
    from trainer.cli.arguments import Verb


def add_draft_options(parser: Verb) -> None:
    """Declare the options of `publish` and `import` that describe a dataset."""
    add = parser.add_argument
    add(
        "--license",
        metavar="TEXT",
        help="license of the data",
    )
    add("--source", metavar="TEXT", help="origin of the data")
    add(
        "--split",
        metavar="NAME=SAMPLES",
        action="append",
        help="samples of the split NAME: 0:800 for rows, 0%%:80%% for a share that stays the same if samples are added, train/ for "
        "the files in a folder, @FILE for the files that a text file lists; repeatable",
    )
    add(
        "--split-seed",
        metavar="N",
        type=_seed,
        help="seed that assigns samples to the percentage ranges of --split (default: 0)",
    )
    add(
        "--stratify",
        metavar="COLUMN",
        help="apply the percentage ranges of --split separately to each value of a table's COLUMN",
    )
    add(
        "--group",
        metavar="COLUMN",
        help="put all rows with the same value of a table's COLUMN into the same percentage range of --split",
    )
    add(
        "--array", metavar="FIELD=FILE", action="append", help="FIELD of a sample is one row of FILE (.npy); repeatable"
    )
    add(
        "--images",
        metavar="FOLDER",
        help="a sample is a picture below FOLDER (. for all); its class is the first folder below FOLDER or below the "
        "folder of its split",
    )
    add("--size", metavar="HxW", help="height and width of all pictures in pixels; with --resize, after resizing")
    add(
        "--resize",
        choices=("stretch", "crop", "pad", "fit"),
        help="resize pictures to --size: stretch changes the aspect ratio, crop fills the size and cuts the rest, pad fits "
        "inside and fills the rest, fit fits inside without filling",
    )
    add(
        "--fill",
        metavar="VALUE",
        type=float,
        help="value that --resize pad adds, from 0 (black) to 1 (white) (default: 0)",
    )
    add("--mode", choices=("L", "RGB", "RGBA"), help="channels of pictures (default: RGB)")
    add("--pixels", choices=("float32", "uint8"), help="pixel type (default: float32, from 0 to 1)")
    add(
        "--white",
        metavar="VALUE",
        type=float,
        help="pixel value that is read as 1.0, for pictures with more than 8 bits per channel",
    )
    add(
        "--alpha",
        choices=("drop", "white", "black"),
        help="for --mode L and RGB, drop transparency, or blend transparent pixels with white or black (default: reject them)",
    )
    add(
        "--frames",
        choices=("first",),
        help="read the first frame of animations and the first page of documents (default: reject several frames)",
    )
    add(
        "--classes",
        metavar="A,B",
        help="names of the classes in the order of their numbers (default: the sorted folders, or the sorted values of --target)",
    )
    add(
        "--labels",
        metavar="FILE",
        help="a CSV file in DIR with the columns file and class (default: folders name the classes)",
    )
    add(
        "--column",
        metavar="FIELD=COLUMN[,COLUMN..][:TYPE]",
        action="append",
        help="a sample is a row of Parquet files; FIELD is one or several columns of TYPE (default: float32); repeatable",
    )
    add(
        "--table",
        metavar="FILE",
        action="append",
        help="a Parquet file (default: all Parquet files of DIR, sorted by path); repeatable",
    )
    add("--lines", metavar="FILE", action="append", help="a sample is a line of the text FILE; repeatable")
    add(
        "--text",
        metavar="FILE",
        action="append",
        help="a sample is a window of bytes of the text FILE, or of tokens with --tokenizer; repeatable",
    )
    add("--window", metavar="N", type=int, help="bytes in a window of --text; with --tokenizer, tokens in a sample")
    add(
        "--stride",
        metavar="N",
        type=int,
        help="bytes, or tokens with --tokenizer, from one window of --text to the next (default: the value of --window)",
    )
    _add_token_options(parser)
    add(
        "--sample",
        metavar="FIELD=TYPE[SHAPE]",
        action="append",
        help="type and shape of FIELD in a sample, for example image=float32[1,8,8]; repeatable",
    )
    add(
        "--allow-nan",
        metavar="FIELD",
        action="append",
        help="allow NaN and infinities in FIELD, as missing values (default: reject them); repeatable",
    )
    add(
        "--include-hidden",
        action="store_true",
        help="also publish hidden files, whose names begin with . or ~$ or end with ~",
    )
    add_table_options(parser)


def _add_token_options(parser: Verb) -> None:
    add = parser.add_argument
    add(
        "--tokenizer",
        metavar="FILE",
        help="tokenize --text or --lines with FILE, a tokenizer.json of Hugging Face's library tokenizers",
    )
    add(
        "--end-token",
        metavar="TOKEN",
        help="the token that follows each line (default: </s>, <|endoftext|> or a similar token of FILE)",
    )
    add(
        "--pad-token",
        metavar="TOKEN",
        help="the token that pads --lines (default: the padding token of FILE, else <pad> or a similar token of FILE)",
    )
    add(
        "--long-lines",
        choices=("reject", "truncate"),
        help="lines with more tokens than --window: reject them (default), or keep their first tokens",
    )


def _seed(word: str) -> int:
    if not word.isascii() or not word.isdigit():
        raise ArgumentTypeError(f"expected an integer, 0 or more, found {word!r}")
    return int(word)
