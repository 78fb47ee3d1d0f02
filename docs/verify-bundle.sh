#!/bin/sh
# Checks a bundle, or one volume of it, without Airlock: openssl, sha256sum and a POSIX shell, with a `find` that knows -iname.
#
#   sh verify-bundle.sh FOLDER station.pub [PERSON.pub]...
#
# First compare the fingerprints that it prints with those that you were told another way. Where persons release bundles, name the
# public keys of those who have to have signed this one: each of them must have.
set -eu
LC_ALL=C
export LC_ALL
fail() { echo "NOT GOOD: $*" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
folder=$1
shift
keys=0
for file; do
  keys=$((keys + 1))
  openssl pkey -pubin -in "$file" -out "$work/key$keys.pem" || fail "$file is no public key"
  openssl pkey -pubin -in "$file" -outform DER | tail -c 32 > "$work/key$keys"
  echo "key $(sha256sum < "$work/key$keys" | cut -c1-40 | fold -w5 | paste -sd- -) $file"
done
[ "$keys" -gt 0 ] || fail "no key is named"
cd "$folder"
newline='
'

[ ! -e AIRLOCK.partial ] || fail "writing it was broken off"

# 1. What lies here, but for what operating systems leave on media: files and folders, no links or devices.
set -- -name '._*' -o -name '.Trash-*'
while read -r name; do
  set -- "$@" -o -iname "$name"
done << 'LITTER'
System Volume Information
$RECYCLE.BIN
RECYCLER
lost+found
.DS_Store
.Spotlight-V100
.fseventsd
.Trashes
Thumbs.db
desktop.ini
.TemporaryItems
.DocumentRevisions-V100
LITTER
find . \( "$@" \) -prune -o ! -type d \( ! -type f -o -name "*$newline*" \) -print > "$work/odd"
[ ! -s "$work/odd" ] || fail "neither a file nor a folder, or oddly named: $(cat "$work/odd")"
find . \( "$@" \) -prune -o -type d -name "*$newline*" -print > "$work/odd"
[ ! -s "$work/odd" ] || fail "oddly named: $(cat "$work/odd")"
find . \( "$@" \) -prune -o -type f -print | sed 's/^\.\///' | grep -v '^AIRLOCK\.\(json\|sig\|volume\)$' | sort > "$work/there"

# 2. The signatures of those keys over the bytes of the manifest: the station's, and those of persons where a root is with it.
for n in $(seq "$keys"); do
  hex=$(od -An -v -tx1 "$work/key$n" | tr -d ' \n')
  sig=$(awk -v key="$hex" '$1 == "ed25519" && $2 == key { print $3; exit }' AIRLOCK.sig)
  [ -n "$sig" ] || fail "key $n has not signed it"
  for pair in $(printf %s "$sig" | fold -w2); do printf "\\$(printf %03o "0x$pair")"; done > "$work/sig"
  openssl pkeyutl -verify -pubin -inkey "$work/key$n.pem" -rawin -in AIRLOCK.json -sigfile "$work/sig" > /dev/null ||
    fail "the signature of key $n does not fit AIRLOCK.json"
done
if grep -q '"path":"ROOT.json"' AIRLOCK.json && [ "$keys" -lt 2 ]; then
  fail "persons release this: name the public keys of those who have to have signed it"
fi

# 3. Which part of it this says that it is: something that the manifest has.
grep -o '"path":"[^"]*","sha256":"[0-9a-f]*","size":[0-9]*\(,"volume":[0-9]*\)\{0,1\}' AIRLOCK.json |
  sed 's/"path":"\([^"]*\)","sha256":"\([0-9a-f]*\)","size":[0-9]*\(,"volume":\)\{0,1\}/\2  \1 /' > "$work/listed"
grep -o '"volumes":\[{[^]]*\]' AIRLOCK.json | grep -o '{' > "$work/volumes" || true
volumes=$(($(wc -l < "$work/volumes")))
part=all
if [ -e AIRLOCK.volume ]; then
  part=$(tr -d '\0' < AIRLOCK.volume)
  { printf '%s\n' "$part" | cmp -s - AIRLOCK.volume; } || { printf %s "$part" | cmp -s - AIRLOCK.volume; } ||
    fail "AIRLOCK.volume is not one line"
  case $part in *"$newline"*) fail "AIRLOCK.volume is not one line" ;; esac
elif [ "$volumes" -gt 0 ]; then
  fail "AIRLOCK.volume is missing: nothing says which of $volumes volumes this is"
fi
printf '%s\n' "$part" > "$work/part"
what=$part
case $part in
  all) [ ! -e AIRLOCK.volume ] ;;
  "volume "*)
    what="$part of $volumes"
    grep -q '^volume [1-9][0-9]\{0,8\}$' "$work/part" && [ "${part#volume }" -le "$volumes" ] ;;
  "files none") ;;
  "files "*)
    # Places in rising order, apart from each other, none beyond the last file.
    grep -q '^files [0-9,-]*$' "$work/part" &&
      sed 's/^files //' "$work/part" | tr , '\n' | awk -v files="$(grep -c '  files/' "$work/listed")" '
        BEGIN { after = -1 }
        !/^(0|[1-9][0-9]*)(-[1-9][0-9]*)?$/ { exit bad = 1 }
        { n = split($0, ends, "-"); if (ends[1] + 0 <= after || n == 2 && ends[2] + 0 <= ends[1] + 0 || ends[n] + 0 >= files) exit bad = 1
          after = ends[n] + 1 }
        END { exit bad }' ;;
  *) false ;;
esac || fail "AIRLOCK.volume says '$part', which is no part of this bundle"

# 4. What should be here: hash and path of each file, of this part or of every one.
case $part in
  all) awk '{ print $1 "  " $2 }' "$work/listed" ;;
  volume*) awk -v n="${part#volume }" 'NF == 2 || $3 == n { print $1 "  " $2 }' "$work/listed" ;;
  files*) sed 's/^files //; s/none//' "$work/part" | tr , '\n' | awk '
    NR == FNR { if (split($0, ends, "-")) { first[++ranges] = ends[1] + 0; last[ranges] = ends[ends[2] == "" ? 1 : 2] + 0 } next }
    $2 !~ /^files\// { if (NF == 2) print $1 "  " $2; next }
    { while (r < ranges && (r == 0 || at > last[r])) r++
      if (r && at >= first[r] && at <= last[r]) print $1 "  " $2
      at++ }' - "$work/listed" ;;
esac > "$work/sums"

# 5. Each of them as it should be, and nothing else.
sha256sum -c --quiet "$work/sums" || fail "files are missing, changed or damaged"
awk '{ print $2 }' "$work/sums" | sort > "$work/wanted"
strangers=$(comm -13 "$work/wanted" "$work/there")
[ -z "$strangers" ] || fail "nobody listed: $strangers"
if [ "$part" = "files none" ] && grep -q '  files/' "$work/listed"; then
  fail "none of its files is here, as AIRLOCK.volume says: nothing of them was verified"
fi

# 6. Files that travel in parts, where all parts are here: one after another they are the file.
awk '$2 ~ /^files\// { print $2 }' "$work/listed" > "$work/files"
grep -o '{"first":[0-9]*,"parts":[0-9]*,"sha256":"[0-9a-f]*"' AIRLOCK.json |
  sed 's/[^0-9]*\([0-9]*\)[^0-9]*\([0-9]*\),"sha256":"\([0-9a-f]*\)"/\1 \2 \3/' > "$work/joined"
while read -r first parts sum; do
  sed -n "$((first + 1)),$((first + parts))p" "$work/files" > "$work/parts"
  [ -z "$(sort "$work/parts" | comm -23 - "$work/wanted")" ] || continue
  found=$(while read -r path; do cat "$path"; done < "$work/parts" | sha256sum | cut -c1-64)
  [ "$found" = "$sum" ] || fail "the parts do not make the file with the hash $sum: $(head -n 1 "$work/parts")"
done < "$work/joined"
echo "GOOD: $what, $(($(wc -l < "$work/sums"))) files"
