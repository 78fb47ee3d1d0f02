#!/bin/sh
# Checks a bundle, or one volume of it, without Airlock: openssl, sha256sum and a POSIX shell.
#
#   sh verify-bundle.sh FOLDER station.pub
#
# First compare the fingerprint that it prints with the one that the sender told you another way.
set -eu
LC_ALL=C
export LC_ALL
key=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "NOT GOOD: $*" >&2; exit 1; }

[ ! -e AIRLOCK.partial ] || fail "writing it was broken off"
openssl pkey -pubin -in "$key" -outform DER | tail -c 32 > "$work/key"
echo "key $(sha256sum < "$work/key" | cut -c1-40 | fold -w5 | paste -sd- -)"

# 1. The signature of that key over the bytes of the manifest.
hex=$(od -An -v -tx1 "$work/key" | tr -d ' \n')
sig=$(awk -v key="$hex" '$1 == "ed25519" && $2 == key { print $3; exit }' AIRLOCK.sig)
[ -n "$sig" ] || fail "that key has not signed it"
for pair in $(printf %s "$sig" | fold -w2); do printf "\\$(printf %03o "0x$pair")"; done > "$work/sig"
openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in AIRLOCK.json -sigfile "$work/sig" > /dev/null ||
  fail "the signature does not fit AIRLOCK.json"

# 2. What should be here: hash and path of each file, on this volume or on every one.
part=$(cat AIRLOCK.volume 2> /dev/null || echo all)
grep -o '"path":"[^"]*","sha256":"[0-9a-f]*","size":[0-9]*\(,"volume":[0-9]*\)\{0,1\}' AIRLOCK.json |
  sed 's/"path":"\([^"]*\)","sha256":"\([0-9a-f]*\)","size":[0-9]*\(,"volume":\)\{0,1\}/\2  \1 /' > "$work/listed"
case $part in
  all) awk '{ print $1 "  " $2 }' "$work/listed" ;;
  volume*) awk -v n="${part#volume }" 'NF == 2 || $3 == n { print $1 "  " $2 }' "$work/listed" ;;
  files*) awk -v want="${part#files }" '
    BEGIN { split(want, ranges, ",") }
    $2 !~ /^files\// { if (NF == 2) print $1 "  " $2; next }
    { for (r in ranges) { n = split(ranges[r], ends, "-"); if (at >= ends[1] && at <= ends[n]) print $1 "  " $2 } at++ }' "$work/listed" ;;
  *) fail "AIRLOCK.volume says '$part'" ;;
esac > "$work/sums"

# 3. Each of them as it should be, and nothing else.
sha256sum -c --quiet "$work/sums" || fail "files are missing, changed or damaged"
awk '{ print $2 }' "$work/sums" | sort > "$work/wanted"
find . -type d \( -name 'System Volume Information' -o -name 'lost+found' -o -name '.[A-Z]*' -o -name '.fseventsd' \) -prune -o ! -type d -print |
  sed 's/^\.\///' | grep -v -e '^AIRLOCK\.\(json\|sig\|volume\)$' -e '\(^\|/\)\(\._.*\|\.DS_Store\|Thumbs\.db\|desktop\.ini\)$' |
  sort > "$work/there"
strangers=$(comm -13 "$work/wanted" "$work/there")
[ -z "$strangers" ] || fail "nobody listed: $strangers"
echo "GOOD: $part, $(wc -l < "$work/sums") files"
