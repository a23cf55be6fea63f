#!/bin/sh
# Lists the files of a folder, in the order of their names.
ls "$1" | sort > "$REPRISE_OUTPUT/listing.txt"
