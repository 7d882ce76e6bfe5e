#!/bin/sh
# What packing and unpacking a root file system costs beside GNU tar, in one run and always into fresh folders.
#
#   bench/archives.sh ARCHIVE FOLDER [WORK]
#
# ARCHIVE is the example `archive` of cocker-image, built for release; FOLDER the tree; WORK (default /dev/shm) where copies go.
set -eu
archive=$1 tree=$2 work=$(mktemp -d "${3:-/dev/shm}/cocker-archives.XXXXXX")
trap 'rm -rf "$work"' EXIT

best() { # best NAME COMMAND…: the least of five times; the command gets a fresh name as $out
    name=$1 least=
    shift
    for try in 1 2 3 4 5; do
        out=$work/out.$try
        start=$(date +%s%N)
        eval "$*" >/dev/null
        took=$((($(date +%s%N) - start) / 1000000))
        rm -rf "$out"
        if [ -z "$least" ] || [ "$took" -lt "$least" ]; then least=$took; fi
    done
    printf '%-28s %6s ms\n' "$name" "$least"
}

"$archive" pack "$tree" "$work/plain.tar" none
"$archive" pack "$tree" "$work/layer.tar.gz" gzip
"$archive" pack "$tree" "$work/layer.tar.zst" zstd
ls -l "$work" | awk 'NR > 1 { print $5, $9 }'
out=
best 'tar xzf'            'mkdir $out && tar xzf $work/layer.tar.gz -C $out'
best 'cocker, gzip'       '$archive unpack $work/layer.tar.gz $out'
best 'tar --zstd -xf'     'mkdir $out && tar --zstd -xf $work/layer.tar.zst -C $out'
best 'cocker, zstd'       '$archive unpack $work/layer.tar.zst $out'
best 'tar xf'             'mkdir $out && tar xf $work/plain.tar -C $out'
best 'cocker, plain'      '$archive unpack $work/plain.tar $out'
best 'tar czf'            'tar czf $out -C $tree .'
best 'cocker pack, gzip'  '$archive pack $tree $out gzip'
best 'tar --zstd -cf'     'tar --zstd -cf $out -C $tree .'
best 'cocker pack, zstd'  '$archive pack $tree $out zstd'
best 'tar cf'             'tar cf - -C $tree . | cat >$out'
best 'cocker pack, plain' '$archive pack $tree $out none'
