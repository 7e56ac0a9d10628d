# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The field's standard terms, in names and in prose: a word of the first column is not used where the
# second one has the term for it. Names: each part of an identifier of applet/, between "_". Prose:
# comments, Kconfig and usage texts, messages, manuals, README.md and ARCHITECTURE.md.
set -u
cd "$(dirname "$0")/../.." || exit 1

names='
way far least      rtt, min_rtt_ms, window
link links         conn (to the origin)
xfer xfers         command
turns              serial_queue
parked stall stalled unstall    deferred, throttled, backlogged
hoard              stuck client, eviction
wish wishes        prefetch hint
book               reserve, commit
doze dozing standing    follower, idle
old                xnbd04
say said           emit
news               progress
verdict            result
take               parse, pop, lock
look               open, inspect, check
ask asks asked     request, send
recall             restore
lives              is_active
narrow             shrink
settle             end_of_turn, finish
'
# Names that stay, and why.
kept='
link               llist_t has it from BusyBox; in buf.c that of a list
chunk_link         a list
chunk_unlink       a list
unlink             unlink(2)
make_link          --install makes links in directories
old                what was before, of a pair old and new
old_end            ... of a gap
fetch_old          ... of fetches
state_old_version  an earlier format of the commit file
COMMIT_OLD_VERSION the same
ENABLE_FEATURE_XNBD_SERVER_OLD_CONTROL    a symbol of Kconfig, which users have in their .config
'
prose='
links?             connection
xfers?             command
range_table        range locks
least_ms           min_rtt_ms
wish(es)?          prefetch hint
asked ahead        prefetched
hoards?            stuck client
parked             deferred
stall(s|ed)?       throttled
doz(e|es|ing)      idle
stands? by         follower, standby thread
verdict            result
news               progress
for ever           forever
keys? of tls       TLS key
handshakes? of tls    TLS handshake
thread switch(es)?    context switch
tables? of partitions    partition table
times? of birth    birth time
(begins?|starts?) anew    starts over, restarts
passed over        skipped
sent again         resent, retransmitted
past the page cache    with direct I/O
in the clear       unencrypted
(takes?|took|taken) the place of    replaces
in the place of    instead of
is no (error|multiple|number|rule)    is not a
'
# Lines that stay, by a pattern over FILE:TEXT, and why: they speak of names in directories, of a list, of
# what the linker does, or of the file NEWS.md.
stay='([Ss]ymbolic|hard) links?|[Ss]ymbolic .* copy|^man/xnbdbox\.1:(The links|creates the links|Links to it|A link could)'
stay="$stay"'|^README\.md:.*creates the links|^applet/main\.c:|^applet/reactor/buf\.c:|^applet/libbb/|NEWS\.md'

T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-words.XXXXXX") || exit 1
trap 'rm -rf "$T"' EXIT
find applet -name '*.[ch]' | LC_ALL=C sort >"$T/files"

# FILE:LINE:KIND:TEXT of sources: KIND is c for what is outside of comments and strings, p for prose.
# shellcheck disable=SC2046 # no name has a space
awk '
	FNR == 1 { inside = 0 }
	{
		code = prose = ""
		rest = $0
		if (rest ~ /^ *\/\/(config|usage|applet|kbuild):/) {
			print FILENAME ":" FNR ":p:" rest
			next
		}
		while (rest != "") {
			if (inside) {
				at = index(rest, "*/")
				prose = prose (at ? substr(rest, 1, at - 1) : rest) " "
				rest = at ? substr(rest, at + 2) : ""
				inside = !at
			} else if (match(rest, /\/\*|"([^"\\]|\\.)*"|'\''([^'\''\\]|\\.)*'\''/)) {
				code = code substr(rest, 1, RSTART - 1) " "
				word = substr(rest, RSTART, RLENGTH)
				rest = substr(rest, RSTART + RLENGTH)
				if (word == "/*")
					inside = 1
				else if ($0 !~ /^ *# *include/)
					prose = prose word " "
			} else {
				code = code rest
				rest = ""
			}
		}
		if (code ~ /[a-z]/)
			print FILENAME ":" FNR ":c:" code
		if (prose ~ /[a-z]/)
			print FILENAME ":" FNR ":p:" prose
	}' $(cat "$T/files") >"$T/text"
[ "$(grep -c ':c:' "$T/text")" -gt 5000 ] || { echo "words.sh: the sources were not read"; exit 1; }

printf '%s' "$names" >"$T/names"
printf '%s' "$kept" >"$T/kept"
printf '%s' "$prose" >"$T/prose"
{
	grep ':c:' "$T/text" | awk -v names="$T/names" -v kept="$T/kept" '
		BEGIN {
			while ((getline line <names) > 0) {
				n = split(line, part, /  +/)
				m = split(part[1], word, " ")
				for (i = 1; n > 1 && i <= m; i++)
					better[word[i]] = part[2]
			}
			while ((getline line <kept) > 0) {
				split(line, word, " ")
				keeps[word[1]] = 1
			}
		}
		{
			split($0, head, ":")
			text = substr($0, length(head[1] head[2] head[3]) + 4)
			while (match(text, /[A-Za-z_][A-Za-z0-9_]*/)) {
				name = substr(text, RSTART, RLENGTH)
				text = substr(text, RSTART + RLENGTH)
				n = split(tolower(name), part, "_")
				for (i = 1; i <= n; i++)
					if (part[i] in better && !(name in keeps))
						print head[1] ":" head[2] ": " name ": " better[part[i]]
			}
		}'
	{
		sed -n 's/^\([^:]*:[0-9]*\):p:/\1:/p' "$T/text"
		grep -n '' man/* README.md ARCHITECTURE.md
	} | awk -v prose="$T/prose" -v stay="$stay" '
		BEGIN {
			while ((getline line <prose) > 0)
				if (split(line, part, /  +/) > 1)
					better[part[1]] = part[2]
		}
		{
			split($0, head, ":")
			text = substr($0, length(head[1] head[2]) + 3)
			if (head[1] ":" text ~ stay)
				next
			text = tolower(text)
			gsub(/[a-z_\/]+\.[ch]([^a-z]|$)|[a-z_]+\(2\)/, "", text)
			for (p in better)
				if (text ~ "(^|[^a-z_])(" p ")([^a-z_(]|$)")
					print head[1] ":" head[2] ": " p ": " better[p]
		}'
} >"$T/found"
cat "$T/found"
[ ! -s "$T/found" ]
