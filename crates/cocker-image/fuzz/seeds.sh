#!/bin/sh
# Makes the archives that fuzzing starts from, in all formats, into fuzz/seeds. Needs root, tar, gzip, zstd, xz and setfattr.
#
#   fuzz/seeds.sh ARCHIVE        the example `archive` of cocker-image
set -eu
archive=$1 seeds=$(dirname "$0")/seeds work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$seeds" "$work/tree/folder/below"
cd "$work/tree"
echo contents >file
ln file folder/hard
ln -s ../outside/secret link
mkfifo fifo
mknod gone c 0 0
truncate -s 50K sparse
printf part | dd of=sparse bs=1 seek=20480 conv=notrunc status=none
name=$(printf 'long%.0s' $(seq 40))
echo x >"$name"
ln "$name" folder/below/again
chown 3000000:5 file
chmod 6755 file
command -v setfattr >/dev/null && setfattr -n user.x -v value file && setfattr -n trusted.overlay.opaque -v y folder
find . -exec touch -h -d @1 {} +
touch -d @1.5 file
cd - >/dev/null

# The first byte chooses how the archive is unpacked; see fuzz_targets/import.rs.
seed() { # seed NAME BYTE FILE
    { printf "\\$2" && cat "$3"; } >"$seeds/$1"
}

"$archive" pack "$work/tree" "$work/plain" none >/dev/null
seed cocker 002 "$work/plain"
for with in gzip zstd xz; do
    $with -c "$work/plain" >"$work/small"
    seed "cocker-$with" 002 "$work/small"
done
cat "$work/small" "$work/small" >"$work/twice"
seed xz-twice 002 "$work/twice"
for sparse in 0.0 1.0; do
    tar --format=pax --pax-option=delete=atime,delete=ctime -S --sparse-version=$sparse --xattrs --xattrs-include='*' -b1 -cf "$work/tar" -C "$work/tree" .
    seed "pax-$sparse" 000 "$work/tar"
done
for format in gnu ustar v7; do
    rm -f "$work/tar"
    sparse=-S devices='gone fifo sparse'
    case $format in
    ustar | v7) sparse= && [ $format = ustar ] && devices=sparse ;;
    *) devices=nothing ;;
    esac
    exclude=
    for device in $devices; do exclude="$exclude --exclude=./$device"; done
    [ $format != v7 ] || exclude="$exclude --exclude=long*"
    tar --format=$format $sparse $exclude -b1 -cf "$work/tar" -C "$work/tree" . 2>/dev/null || true
    seed "$format" 002 "$work/tar"
done
mkdir "$work/files"
: >"$work/files/.wh.gone"
mkdir "$work/files/folder" && : >"$work/files/folder/.wh..wh..opq"
: >"$work/files/.wh.folder" && mkdir "$work/files/gone"
tar --sort=none -b1 -cf "$work/tar" -C "$work/files" .
seed whiteouts 001 "$work/tar"
