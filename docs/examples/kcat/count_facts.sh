#!/bin/sh
# How many facts of each kind a session has: `count_facts.sh laps overtakes`.
set -eu
for kind in "$@"; do
    kcat -C -q -e -o beginning -b "${BROKERS:-127.0.0.1:19092}" -X isolation.level=read_committed \
        -t "${PREFIX:-}pitwall.$kind.v1" -f '%k %h\n' |
        awk -v kind="$kind" -v session="${SESSION:-9920}" -v epoch="${EPOCH:-0}" \
            '$1 == session && $2 ~ "^epoch=" epoch "," { facts++ } END { print facts + 0, kind }'
done
