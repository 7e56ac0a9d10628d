#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make mutants: plausible errors are made in core/, and in what else the simulator runs (storage/, nbd/, itself),
# one at a time, and each has to be found by the simulator or by a unit test. So the tests are tested.
#
# A mutant: a name, a file of applet/core (or ../ROOM/FILE, ../../tests/sim/FILE), a sed script. One that changes nothing, or
# does not compile, is an error of this list. ONLY=TEXT: those with it in their name.
# CHECK=1: only whether each changes something; a second.
#
# Most die in the first seeds, some need thousands. Which seed has killed one of these is kept in
# mutants.seeds and tried first the next time, so that the whole list takes minutes instead of hours.
# It says only where to look first: what the code has become may need another one, which is then
# looked for, and kept.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-mutants.XXXXXX")
trap 'remember; rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
cd "$top" || exit 1
SEEDS=${SEEDS:-3000}
jobs=$(nproc)
known=tests/sim/mutants.seeds

# one NAME FILE SED NUMBER: builds it and runs the tests, what is quickest first. Writes "killed ..." to its result.
one() {
	name=$1 file=$2 script=$3 d=$T/$4
	if [ "${CHECK:-}" ]; then
		if ! sed "$script" "applet/core/$file" >"$d" || cmp -s "$d" "applet/core/$file"; then
			echo "$name: changes nothing" | tee "$d.result"
		else
			echo "changes something" >"$d.result"
		fi
		return
	fi
	mkdir -p "$d/build"
	cp -a applet Makefile config Kconfig tests man .config "$d"
	cp -a build/unit "$d/build"
	sed -i "$script" "$d/applet/core/$file"
	if cmp -s "applet/core/$file" "$d/applet/core/$file"; then
		echo "changes nothing"
	elif ! make -s -C "$d" build/unit/sim >"$d/log" 2>&1; then
		echo "does not compile: $(grep -m1 error "$d/log")"
	elif known_seed_kills "$d" "$name" || simulator_kills "$d" 1 30 || unit_test_kills "$d" ||
		simulator_kills "$d" 31 $((SEEDS - 30)); then
		:
	else
		echo "survived"
	fi >"$d.result"
	rm -rf "$d"
	echo "$name: $(cat "$d.result")"
}

known_seed_kills() {
	seed=$(awk -v name="$2" '{ seed = $1; sub(/^[0-9]+ /, "") } $0 == name { print seed }' "$known" 2>/dev/null)
	[ "$seed" ] && simulator_kills "$1" "$seed" 1
}

# simulator_kills FOLDER FIRST COUNT: 30 seeds take 3 s of a processor.
simulator_kills() {
	! prlimit --cpu=$((60 + $3)) "$1/build/unit/sim" "first=$2" "$3" jobs=1 shrink=no >"$1/log" 2>&1 || return 1
	sed -n 's/^seed \([0-9]*\),.*/\1/p' "$1/log" | awk -v name="$name" '$1 > 30 { print $1, name }' >"$1.seed"
	echo "killed: $({ grep -m1 -E '^seed|ERROR|runtime error' "$1/log" || echo it does not end; } | cut -c 1-100)"
}

unit_test_kills() {
	make -s -C "$1" build/unit/core_test >"$1/log" 2>&1 || { echo "does not compile: $(grep -m1 error "$1/log")"; return; }
	! timeout 1200 prlimit --cpu=60 "$1/build/unit/core_test" >"$1/log" 2>&1 && echo "killed by core_test"
}

# remember: the seed of each that is in the list, from this run or from before. Also when the run is cut.
remember() {
	[ ! "${CHECK:-}" ] || return
	cat "$T"/*.seed "$known" 2>/dev/null | awk -v names="$T/names" '
	BEGIN { while ((getline name <names) > 0) listed[name] }
	{ seed = $1; sub(/^[0-9]+ /, "") }
	$0 in listed && !($0 in done) { done[$0]; print seed, $0 }' | sort -k 2 >"$T/known"
	cmp -s "$T/known" "$known" || cp "$T/known" "$known"
}

# mutant NAME FILE SED: the job whose turn it is takes it.
mutant() {
	n=$((n + 1))
	[ "$job" != 0 ] || echo "$1" >>"$T/names"
	case "$1" in *"${ONLY:-}"*) ;; *) return ;; esac
	[ $((n % jobs)) != "$job" ] || one "$1" "$2" "$3" "$n"
}

list() {
mutant "the bit is set before the data is written" fetch_store.c '/^void fetch_store(/,/^}/s|f->io.error = 0;|f->io.error = 0; map_set(\&c->map, f->first, f->end);|'
mutant "fetched blocks overwrite what clients wrote" fetch_store.c '/^static bool store_prepare/,/^}/s|map_next_missing(&c->map, f->position, f->end)|f->position|; /^static bool store_prepare/,/^}/s|map_next_local(&c->map, first, f->end)|f->end|'
mutant "a block whose first words are zero is taken for zeroes" ../nbd/zeroes.c 's/if (w\[0\] | w\[1\] | w\[2\] | w\[3\])/if (at == p \&\& w[0])/'
mutant "the last bytes of a short block are not looked at" ../nbd/zeroes.c 's/while (at < end && !\*at)/while (at < end)/'
mutant "a store takes a shared range" fetch_store.c '/^void fetch_store(/,/^}/s|exclusive = true|exclusive = false|'
mutant "a write takes a shared range" request.c 's|r->range.exclusive = is_write(r);|r->range.exclusive = false;|'
mutant "a read does not wait for writes" request.c 's|if (range_is_busy(&c->ranges, first, end, false))|if (false)|'
mutant "a read in flight holds no range" request.c '/^static void request_read/,/^}/s|range_lock(&c->ranges, &r->range);|r->range.end = first; range_lock(\&c->ranges, \&r->range);|'
mutant "partial writes do not fetch the first block" request_check.c 's|if (first < whole_first(r) && !map_is_local(&c->map, first))|if (false)|'
mutant "partial writes do not fetch the last block" request_check.c 's|if (end > whole_end(c, r) && !map_is_local(&c->map, end - 1))|if (false)|'
mutant "the short last block never counts as whole" request.h 's|return end == c->size_bytes ? c->map.blocks : end / BLOCK_BYTES;|return end / BLOCK_BYTES;|'
mutant "an error of a write is ignored" request.c '/^static void write_done/,/^}/s|error = r->io.error;|error = 0;|'
mutant "an error of a store is ignored" fetch_store.c '/^static void store_end/,/^}/s|if (f->io.error)|if (false)|'
mutant "the reply does not wait for the bitmap" request.c '/^static void write_done/,/^}/s|persist_add(c, &r->persist);|request_end_write(c, r, 0);|'
mutant "an error of the bitmap is ignored" commit.c 's|if (c->persist_io.error \&\& !c->bitmap_error)|if (false)|'
mutant "the bitmap is written one word short" commit.c 's|io->length = n \* sizeof(uint64_t);|io->length = (n > 1 ? n - 1 : n) * sizeof(uint64_t);|'
mutant "of many bits only the first part is written" commit.c 's/while (c->persist_word < c->persist_end || c->persist_cursor)/while (c->persist_cursor)/'
mutant "the second part of many bits is written from the first one's place" commit.c 's|c->persist_word += n;|c->persist_end -= n;|'
mutant "only the first piece of zeroes is written" request.c 's|if (!error \&\& r->rest)|if (false)|'
mutant "zeroes go on behind a piece that failed, and are answered well" request.c 's|if (!error \&\& r->rest)|if (r->rest)|'
mutant "the bits of all pieces of zeroes are set with the first" request.c '/^static void write_done/,/^}/s|map_set(&c->map, whole_first(r), whole_end(c, r))|map_set(\&c->map, whole_first(r), whole_end(c, r) + r->rest / BLOCK_BYTES)|'
mutant "a piece of zeroes begins a block too late" request_pieces.c '/^void piece_next/,/^}/s|r->offset += r->length;|{ uint32_t late = r->rest > BLOCK_BYTES ? BLOCK_BYTES : 0; r->offset += r->length + late; r->rest -= late; }|'
mutant "a sync that failed is answered before the next start knows" commit.c '/^static void commit_finish/,/^}/s|if (sync_is_untold(c))|if (false)|'
mutant "a write whose note could not be synced is answered before the next start knows" request.c '/^static void request_end_write/,/^}/s|error ? sync_is_untold(c) :|error ? false :|'
mutant "a switch whose sync failed is answered before the next start knows" switch.c '/^void core_switched/,/^}/s|error \&\& sync_is_untold(c)|false|'
mutant "the core is told before the header says that a sync failed" ../storage/header.c '/^void header_tick/,/^}/s|^\tbool failed = .*;|&\n\n\tif (failed) { core_sync_told(d->core); }|'
mutant "bits are noted after the sync" commit.c '/^static bool commit_write/,/^}/s|k->state = COMMIT_WRITE;|k->state = COMMIT_WRITE; { unsigned i; for (i = first; i < end; i++) memcpy(k->snapshot + (size_t)i * MAP_CHUNK_BYTES, (uint8_t *)c->map.words + k->chunk[i] * MAP_CHUNK_BYTES, map_chunk_bytes(\&c->map, k->chunk[i])); }|; s|#include <stdlib.h>|#include <stdlib.h>\n#include <string.h>|'
mutant "the image is not synced before its bits" commit.c '/^static bool commit_pass/,/^}/s|return commit_io(c, IO_SYNC, FILE_IMAGE);|return true;|'
mutant "the commit file is not synced" commit.c '/^static bool commit_sync_file/,/^}/s|written_sync(c, &c->commit.note);|return true;|'
mutant "a commit does only its first pass" commit.c 's|k->state == COMMIT_SYNC_FILE && k->cursor >= c->map.chunks|k->state == COMMIT_SYNC_FILE|'
mutant "FLUSH joins the commit under way" commit.c '/^void core_commit/,/^}/s|w->next = NULL;|w->next = NULL; if (c->commit.now) { w->next = c->commit.now; c->commit.now = w; return; }|'
mutant "a sync that failed is tried again" commit.c 's|core_sync_failed(c, k->io.error);|k->io.error = 0;|'
mutant "a clean commit looks only at the bits" commit.c 's|!c->commit.image_dirty && !c->map.dirty_chunks|!c->map.dirty_chunks|'
mutant "FUA is forgotten" request.c 's|error ? sync_is_untold(c) : r->flags & NBD_CMD_FLAG_FUA|error ? sync_is_untold(c) : false|'
mutant "what was asked is not asked again after the connection is lost" fetch_conn.c '/^void fetch_conn_lost/,/^}/s|fetch_queue(.*|;|'
mutant "an error of the origin goes to all who wait" fetch.c 's/how == END_GIVE_UP || only_for_r ? error : 0/error/'
mutant "an error of the origin goes to nobody" fetch.c 's/how == END_GIVE_UP || only_for_r ? error : 0/0/'
mutant "blocks in flight are asked again" fetch_table.c 's|& ~fetch_in_flight(c, word)||'
mutant "the switch does not look at the map" switch.c 's|if (!force && !map_is_complete(&c->map))|if (false)|'
mutant "the switch does not wait for a commit" switch.c 's|core_commit(c, &c->switch_commit);|c->switch_commit.done(\&c->switch_commit, 0);|'
mutant "extents of the origin are one sector too long" copier.c 's|stop = k->map_start + e->length;|stop = k->map_start + e->length + 512;|'
mutant "extents are laid out from where the walk is now" copier.c 's|k->map_start = k->map_end = k->status_start;|k->map_end = k->map_start;|'
mutant "a block that is zero in part is taken for zero" copier.c 's|stop >= c->size_bytes ? c->map.blocks : stop / BLOCK_BYTES|map_blocks(stop)|'
mutant "an offset may wrap around" request_check.c 's/r->offset > c->size_bytes || r->length > c->size_bytes - r->offset/r->offset + r->length > c->size_bytes/'
mutant "a trim that the disk cannot follow shows what is on it" request.c 's/if (!port_io(c, &r->io))$/if (false)/'
mutant "a trim that the disk cannot follow makes blocks local before they are zero" request.c '/^static bool trim_missing/,/^}/s|r->io.op = IO_ZERO;|r->io.op = IO_ZERO; map_set(\&c->map, first, stop);|'
mutant "a trim that the disk cannot follow zeroes the first missing blocks, and no others" request.c '/^static bool trim_missing/,/^}/s|: map_blocks(r->io.offset + r->io.length)|: r->range.end|'
mutant "a trim that the disk cannot follow ends with its first piece" request.c '/^static void range_granted/,/^}/s|request_end_write(|r->rest = 0; request_end_write(|'
mutant "a trim that the disk cannot follow is answered before others have written its bits" request_pieces.c '/^void piece_trim/,/^}/s|piece_begin(c, r);|if (piece_idle_end(c, r, first, end) == end) request_reply(c, r, NBD_SUCCESS); else piece_begin(c, r);|'
mutant "a trim that the disk cannot follow leaves out what is missing" request_pieces.c 's|c->no_trims ? map_next_missing(&c->map, first, end) : first;|c->no_trims ? end : first;|'
mutant "a trim that the disk cannot follow leaves missing what is missing" request.c '/^static void write_done/,/^}/s|else if (ENABLE_FEATURE_XNBD_SERVER_PROXY \&\& !error \&\&|else if (!error \&\& !(r->type == NBD_CMD_TRIM \&\& r->io.op == IO_ZERO) \&\&|'
mutant "zeroes for a trim fail, and it is answered well" request.c '/^static void write_done/,/^}/s|if (trim_is_refused(&r->io))|if (error == EOPNOTSUPP \|\| r->io.op == IO_ZERO)|'
mutant "a trim that the disk cannot follow with these borders is an error" request.c 's/ || io->error == EINVAL//'
mutant "a trim that the disk cannot follow with these borders is the last one" request.c '/^static void write_done/,/^}/s/c->no_trims |= .*;/c->no_trims |= trim_is_refused(\&r->io);/'
mutant "a trim covers blocks in part" request_pieces.c '/^void piece_trim/,/^}/s|whole_first(r)|touched_first(r)|'
mutant "a range is granted to the first of those it held up only" range.c 's|tail = &a->next_granted;|tail = \&a->next_granted; break;|'
mutant "the copy ends with its first pass" copier.c 's/else if (k->run_blocks == 1 \&\& k->pass_error)/else if (true)/'
mutant "a pass of the copy waits for what clients ask after its end" copier.c 's/return !k->in_flight \&\& !c->fetch_old;/return !k->in_flight \&\& !c->fetch_count;/'
mutant "a pass of the copy does not wait for what clients have asked for" copier.c 's/return !k->in_flight \&\& !c->fetch_old;/return !k->in_flight;/'
mutant "what clients could not have is left out by the copy" copier.c '/^void copier_client_failed/,/^}/s|fetch_copy(c, first, stop);|;|'
mutant "bits of the last word are not set" map.c '/^uint64_t map_set/,/^}/s|while (first < end) {|while (first + 1 < end) {|'
mutant "offsets of requests lose what is above 4 GiB" request.c 's|r->io.offset = r->offset;|r->io.offset = (uint32_t)r->offset;|'
mutant "offsets at the origin lose what is above 4 GiB" fetch_conn.c 's|port_conn_read(c, slot, f->cookie, f->first \* BLOCK_BYTES, n);|port_conn_read(c, slot, f->cookie, (uint32_t)(f->first * BLOCK_BYTES), n);|'
mutant "offsets of stores lose what is above 4 GiB" fetch_store.c 's|f->io.offset = first \* BLOCK_BYTES;|f->io.offset = (uint32_t)(first * BLOCK_BYTES);|'
mutant "extents are asked for below 4 GiB only" copier.c 's|k->status_cookie, start, |k->status_cookie, (uint32_t)start, |'
mutant "a fetch without memory is asked for" fetch_conn.c '/^static bool fetch_send/,/^}/s|if (!f->buf)|if (false)|'
mutant "a request that no fetch could be made for is forgotten" request.c '/^static void request_fetch/,/^}/s|request_reply(c, r, NBD_ENOMEM);|;|'
mutant "a READ without a buffer does not wait for its blocks" request_check.c '/^uint64_t request_first_awaited/,/^}/s#return r->type == NBD_CMD_BLOCK_STATUS ?#return r->type == NBD_CMD_BLOCK_STATUS || (r->type == NBD_CMD_READ \&\& !r->buf) ?#'
mutant "a piece of a READ is not counted as in flight" request.c '/^void core_read/,/^}/s|c->in_flight++;|;|'
mutant "a start without memory goes on" core.c 's|return c->commit.snapshot \&\& c->commit.chunk \&\& c->persist_copy \&\&|return true \&\&|'
mutant "an answer counts over any connection" fetch_conn.c '/^void \*core_conn_buffer/,/^}/s|if (!f)|for (conn = 0; !f \&\& conn < CONNS; conn++) for (f = c->sent[conn]; f \&\& f->cookie != cookie; f = f->next) ;\n\tif (!f)|'
mutant "an answer is taken for the oldest request" fetch_conn.c '/^static struct fetch .sent_pop/,/^}/s|while (\*p \&\& (\*p)->cookie != cookie)|while (false)|'
mutant "extents count whatever their cookie is" copier.c 's/if (cookie \&\& cookie == c->copier.status_cookie)/if (c->copier.status_cookie)/'
mutant "what is lost with a connection waits for another reason to be asked" copier.c 's|k->status_cookie = 0;$|;|'
mutant "nobody is woken for the next commit" core.c 's|at = commit_deadline(c);|at = UINT64_MAX;|'
mutant "who is given up leaves his fetch in the queue" fetch.c '/^void fetch_expire/,/^}/s|fetch_forget(c);|;|'
mutant "nobody is woken for --hold" core.c 's/hold_runs(c) || c->queries/c->queries/'
mutant "a smaller share is for later" core.c '/^void core_share/,/^}/s|set_windows(c, fetch_window, false)|set_windows(c, fetch_window > c->copy_window * CONNS ? fetch_window : c->copy_window * CONNS, false)|'
mutant "the copy's window outgrows its share" rtt.c 's|\*window + step < c->copy_window_max ? \*window + step : c->copy_window_max|*window + step|'
mutant "a shorter --hold leaves those who have waited for longer" core.c '/^void core_hold/,/^}/s|fetch_expire(c);|;|'
mutant "--hold has run out, and the next one waits as long" request.c 's|if (c->lost)|if (false)|'
mutant "--hold has run out, and who waits already goes on" fetch.c 's|!is_lost \&\& ||'
mutant "--hold has run out, and nobody waits for an origin that is back" fetch.c 's|c->lost = false;|;|'
mutant "--hold has run out, and a new one does not count" core.c 's|c->lost = false;|;|'
mutant "--hold has run out, and nobody waits for a connection that is up" fetch.c 's/c->lost |= no_conn;/c->lost = true;/; s|c->lost \&\& no_conn|c->lost|'
mutant "--hold has run out, and a connection that answers nothing ends that" fetch_conn.c 's|c->conn\[conn\].up = true;|c->conn[conn].up = true; c->lost = false;|'
mutant "--hold has run out, a connection has come and gone without an answer, and who waits goes on" fetch_conn.c '/^void core_conn_down/,/^}/s|if (c->lost)|if (false)|'
mutant "--hold has run out, and a connection that lasts does not end that" fetch_conn.c '/^void core_conn_down/,/^}/s|c->lost = false;|;|'
mutant "--hold has run out, and a connection that comes and goes ends that" fetch_conn.c 's/c->now_ms - c->conn_up_ms\[conn\] >= c->hold_ms/true/'
mutant "--hold has run out, and who waits while a connection is up fails" fetch.c 's|is_lost = c->lost \&\& no_conn|is_lost = c->lost|'
mutant "--hold has run out, and the connection of the copy does not count" fetch.c 's|no_conn = \(.*\) \&\& .*|no_conn = \1;|'
mutant "--hold has run out, and the connection of clients does not count" fetch.c 's|no_conn = .* \&\& \(.*\)|no_conn = \1|'
mutant "--hold has run out, and who waits for the image fails" fetch.c 's/f->state == FETCH_STORING || (!is_lost/(!is_lost/'
mutant "a switch by force leaves those who wait" switch.c 's|fetch_fail_queued(c, EIO);|;|'
mutant "after a switch by force the origin is still asked" request.c 's|} else if (c->mode == MODE_TARGET) {|} else if (false) {|'
mutant "who waits when the switch is forced asks the origin again" request.c 's|^\telse if (c->mode == MODE_TARGET)$|\telse if (false)|'
mutant "a trace names what was only written" request.c 's|if (t->recording)$|if (false)|'
mutant "a trace forgets what is written in part" request.c 's|if (end > whole_end(c, r) \&\& r->type != NBD_CMD_TRIM)|if (false)|'
mutant "a run of a trace is forgotten" trace.c '/^static void run_add/,/^}/s|^\tmap_set.*|\t;|'
mutant "the length of a run may wrap around" trace.c '/^static bool run_fits/,/^}/s/r->first < r->end/r->first != r->end/'
mutant "a trace may end behind the disk" trace.c '/^static bool run_fits/,/^}/s/r->end <= blocks \&\& //'
mutant "a trace that goes on forgets its runs" trace.c '/^void trace_resume/,/^}/s|t->runs < runs; t->runs++|false;|'
mutant "a trace that goes on names what it has already" trace.c '/^void trace_resume/,/^}/s|map_set(.*|;|'
mutant "a trace that goes on is not written before it has grown" trace.c '/^void trace_resume/,/^}/s|t->changed = true;|;|'
mutant "a full trace goes on" report.c '/^bool core_record/,/^}/s#runs == TRACE_RUNS_MAX#false#'
mutant "a trace goes on after the switch" report.c '/^bool core_record/,/^}/s#c->mode == MODE_TARGET#false#'
mutant "another program does not get the last run that is fetched" report.c '/^const struct trace_run \*core_prefetched/,/^}/s|c->prefetch.runs;|c->prefetch.runs - 1;|'
mutant "a prefetch outlives the switch" switch.c '/^static void become_target/,/^}/s|prefetch_stop(c);|;|'
mutant "a prefetch waits for the copy" copier.c 's|if (ENABLE_FEATURE_XNBD_SERVER_TRACE \&\& prefetch_pump(c))|if (k->status.state == JOB_RUNNING \&\& prefetch_pump(c))|'
mutant "one differing sample is overlooked" state.c 's/a->sample\[i\] != b->sample\[i\]/a->sample[0] != b->sample[0]/'
mutant "an origin that cannot be read is taken for ours" state.c 's/return common || !known;.*/return true;/'
mutant "an origin of another size is taken for ours" state.c '/^const char \*fingerprint_refuse/,/^}/s|if (size_bytes != known_bytes)|if (false)|'
mutant "an origin of another size is taken by force" state.c '/^const char \*fingerprint_refuse/,/^}/s|if (size_bytes != known_bytes)|if (!force \&\& size_bytes != known_bytes)|'
mutant "an origin of other content is taken for ours" state.c '/^const char \*fingerprint_refuse/,/^}/s|!fingerprint_match(seen, known)|false|'
mutant "force does not help" state.c '/^const char \*fingerprint_refuse/,/^}/s|!force \&\& ||'
mutant "a start without the origin forgets it" ../storage/store_create.c '/^void store_open/,/^}/s|if (new_commit)$|if (!fp) memset(\&d->header.fingerprint, 1, sizeof(d->header.fingerprint));\n\tif (new_commit)|'
mutant "what waits for an origin that was never there fails" core.c 's|c->hold_ms = config->hold_ms;|c->hold_ms = config->hold_ms ? config->hold_ms : 1;|'
mutant "a target that is read only is written to" request_check.c 's|if (c->readonly)|if (false)|'
mutant "names are synced only by the start that creates them" ../storage/store_create.c '/^void store_open/,/^}/s|sync_directory(d->path\[FILE_[A-Z]*\]);|if (new_commit) &|'
mutant "a header on a device names an image that may not be there" ../storage/store_create.c '/^void store_open/,/^}/s|^\tsync_directory(d->path\[FILE_IMAGE\]);|\tif (!in_place) &|'
mutant "a bitmap is trusted after a power cut" ../storage/identity.c 's/if (!now.boot_id\[0\] || strcmp(now.boot_id, h->boot_id) != 0)/if (false)/'
mutant "the bitmap is not made anew after a power cut" ../storage/store_create.c '/^void store_open/,/^}/s|write_bits(d, FILE_BITMAP, 0, .*;|;|'
mutant "a first header on a device is not announced" ../storage/store_create.c '/^static void write_header/,/^}/s/in_place ? header_announce(.*) : 0;/in_place ? 0 : 0;/'
mutant "the first header of a device may be there before its bits" ../storage/header.c '/^static int write_copy/,/^}/s/if (fdatasync(fd) == 0)/if (from || fdatasync(fd) == 0)/'
mutant "an old commit on a device keeps its bits" ../storage/store_create.c '/^static void prepare_commit_device/,/^}/s|zero_plane(d, .*);|;|; s|^static void zero_plane|static UNUSED_PARAM void zero_plane|'
mutant "what is adopted is not synced" ../storage/store_create.c 's|how == START_ADOPT \&\& fdatasync|false \&\& fdatasync|'
mutant "what is adopted is not committed" ../storage/store_create.c 's|prepare_commit(d, size_bytes, how == START_ADOPT, covered)|prepare_commit(d, size_bytes, false, covered)|'
mutant "a write does not note where it writes" written.c '/^bool written_note/,/^}/s|map_set(&w->map, p->first, p->end);|return true;|'
mutant "a write does not wait for its note" request.c 's/ || !range->exclusive ||$/ || !range->exclusive || true ||/; s/|| true ||/|| (written_note(r->core, \&r->persist, range->first, range->end), false) || true ||/'
mutant "the note of a write to local blocks is only in the file" written.c 's|p->durable = map_next_local(.*;|p->durable = false;|'
mutant "the note of a write to missing blocks is only in memory" written.c 's|if (!p->durable \&\& w->in_file == w->map.local)|if (!p->durable)|'
mutant "bits are committed before the notes that go with them are synced" commit.c 's|c->written.durable != c->written.in_file|false|'
mutant "notes that were written and not synced count as safe" written.c 's|if (stage == NOTE_SYNC \&\& !error)|if (!error)|'
mutant "a sync covers the notes that were written meanwhile" written.c 's|w->durable = w->covered;|w->durable = w->in_file;|'
mutant "notes that were made while others were written count as written" written.c 's|w->in_file = w->taken;|w->in_file = w->map.local;|'
mutant "notes that another program has not synced count as safe" core.c 's|written_init(c, config->written, !config->notes_unsafe)|written_init(c, config->written, true)|'
mutant "notes that could not be synced count as safe" written.c 's|int error = stage == NOTE_WRITE ? w->error : c->commit.error;|int error = 0;|'
mutant "notes that could not be written count as written" written.c 's|^\tif (!w->error)$|\tif (true)|'
mutant "chunks before the last one are not written again" written.c '/^void written_kick/,/^}/s|w->chunk = 0;|;|'
mutant "a write notes its neighbours" written.c '/^bool written_note/,/^}/s|map_set(&w->map, p->first, p->end);|map_set(\&w->map, p->first - (p->first != 0), p->end);|'
mutant "the switch tells nobody that no more is noted" switch.c 's|^\t\tif (ENABLE_FEATURE_XNBD_SERVER_VERIFY \&\& c->written.map.words \&\& !map_is_complete(&c->map))$|\t\tif (false)|'
mutant "a switch that was cut forgets who wrote what is local" switch.c 's|c->written.map.words \&\& !map_is_complete(&c->map))$|c->written.map.words)|'
mutant "what a target has written is not forgotten to be unknown" ../storage/store.c 's/how == START_ADOPT || d->header.switched ||/how == START_ADOPT ||/'
mutant "the switch does not wait until that is on the disk" written.c '/^void written_lose/,/^}/s|written_sync(c, p);|p->done(p, 0);|'
mutant "the record is not read" ../storage/store.c 's|load_bits(d, d->written, .*;|;|'
mutant "the notes of the last server are taken for safe" ../storage/store_create.c '/^void store_open/,/^}/s|write_written(d, size_bytes);|;|'
mutant "who wrote what is adopted is known" ../storage/store.c 's/how == START_ADOPT || d->header/d->header/'
mutant "what nobody knows the writer of is compared" written.c 's|^\tif (!is_unknown(written, size_bytes))$|\tif (true)|'
mutant "what was written since it was asked for is compared" verify.c '/^static bool compare_prepare/,/^}/s|first = written_next(c, f->position, f->want_end, &end);|first = f->position; end = f->want_end;|'
mutant "a comparison overlooks what a client writes meanwhile" verify.c 's|c->verify.status.written += first - f->position;|;|'
mutant "a comparison that does not know the writer is whole" verify.c 's|v->writers_known ? v->status.written : 0|v->status.written|'
mutant "a switch makes a whole comparison partial" verify.c 's|v->writers_known ? v->status.written : 0|written_is_known(c) ? v->status.written : 0|'
mutant "a comparison of nothing is whole" verify.c 's/(!s->compared || s->compared < comparable)/s->compared < comparable/'
mutant "what is compared takes no range" verify.c '/^static void compare_begin/,/^}/s|f->range.end = f->want_end;|f->range.end = f->want_first;|'
mutant "the last block that is asked for is not compared" verify.c '/^static bool compare_prepare/,/^}/s|f->position = end;|f->position = end; if (end - first > 1) end--;|'
mutant "after a bad sector the rest is not compared" verify.c 's|if (f->want_end < f->rest_end)|if (false)|'
mutant "the copy's window grows over a short connection" rtt.c 's|^\tif (!has_delay(rtt))$|\tif (false)|'
mutant "the copy's window grows without end" rtt.c 's|\*window = \*window + step < c->copy_window_max ? \*window + step : c->copy_window_max;|*window += step;|'
mutant "the copy's window grows whether it is full or not" rtt.c 's| \&\& used + step > \*window)|)|'
mutant "the copy's window stays when what comes has waited" rtt.c 's|\*window -= step;|;|'
mutant "the copy's window shrinks to nothing" rtt.c 's| \&\& \*window >= 3 \* step)|)|'
mutant "the copy's window outlives the connection" fetch_conn.c '/^void fetch_conn_lost/,/^}/s|rtt_reset(c);|;|'
mutant "what came over a connection that is lost tells of the next" rtt.c 's|if (f->cookie <= c->copy_since)|if (false)|'
mutant "what the copy lost with the connection comes before what clients ask" fetch_conn.c '/^void fetch_pump/,/^}/s|for (kind = 0; kind < CONNS; kind++)|for (kind = CONNS; kind-- > 0;)|'
mutant "the copy's window does not follow a longer round trip" rtt.c 's|w->min_rtt_ms = w->slow_ms;|;|'
mutant "a round trip is longer because of a client's fetch" rtt.c 's| \&\& !c->fetch_bytes\[CONN_CLIENT\])|)|'
mutant "bad luck is a longer round trip" rtt.c '/^\tif (!rtt_is_slow(w, ms))$/{n;s|w->slow = 0;|;|}'
mutant "the copy goes on as soon as no client waits" rtt.c 's/(c->waiting || c->now_ms - c->waited_ms < COPY_POLITE_MS)/c->waiting/'
mutant "the copy that stands back asks for as much as ever" copier.c 's|rtt_backs_off(c) \&\& k->run_blocks > COPY_POLITE_BLOCKS ? COPY_POLITE_BLOCKS : ||'
mutant "the copy stands back for ever" rtt.c 's|c->now_ms - c->waited_ms < COPY_POLITE_MS|c->waited|'
mutant "the copy stands back over a connection with a delay" rtt.c 's|(!has_delay(&c->rtt\[CONN_COPIER\]) \&\& (|((|'
mutant "nobody notes when a client has waited" request.c 's|c->waited_ms = c->now_ms;|;|'
mutant "the comparison passes over a whole disk in one turn" verify.c 's|if (words++ == VERIFY_WORDS)|if (false)|'
mutant "the comparison does not go on behind its rest" verify.c 's/if (v->rests || (v->status.rate_limit/if ((v->status.rate_limit/'
mutant "the comparison does not stand back" verify.c 's|if (rtt_backs_off(c))|if (c->waiting)|'
mutant "the comparison has the window that the copy left" verify.c 's|c->fetch_window\[CONN_COPIER\] = c->copy_window;|;|'
mutant "a file is not synced before it is asked for its data" ../storage/store.c 's#known = (d->resumed || fdatasync(d->fd\[file\]) == 0) && #known = #'
mutant "a sync that failed does not keep a file from being asked" ../storage/store.c 's|fdatasync(d->fd\[file\]) == 0|fdatasync(d->fd[file]) <= 0|'
mutant "a file system that lies is asked" ../storage/holes.c 's| \&\& (uint32_t)s.f_type != ZFS||'
mutant "a file system that is a program is asked" ../storage/holes.c 's| \&\& (uint32_t)s.f_type != FUSE||'
mutant "where data begins a word is not read whole" ../storage/store.c 's|known, offset) & ~7ULL|known, offset)|'
mutant "what was skipped is not counted" ../storage/store.c 's|uint64_t \*words = to + (offset - first) / 8;|static uint64_t *words; words = offset == first ? to : words + LOAD_BYTES / 8;|'
mutant "bits of the commit file are taken for later ones" ../storage/store.c 's|to + (offset - first) / 8;|to + offset / 8;|'
mutant "a file that cannot tell has no data" ../storage/holes.c '/^uint64_t holes_data(/,/^}/s|at < 0 \&\& errno == ENXIO|at < 0|'
mutant "read-ahead has no limit" readahead.c '/^static uint64_t blocks_in_flight/,/^}/s|uint64_t blocks = (.*;|uint64_t blocks = READAHEAD_BLOCKS_MAX;|'
mutant "read-ahead calls its own queue a delay" rtt.c 's|if (ms < w->min_rtt_ms)|if (true)|'
mutant "read-ahead has no end" readahead.c '/^static uint64_t blocks_in_flight/,/^}/s|return .*;|return blocks;|'
mutant "read-ahead does not follow a longer round trip" readahead.c 's|c->fetch_bytes\[CONN_CLIENT\] <= blocks \* BLOCK_BYTES \&\& |false \&\& |'
mutant "read-ahead takes what waits for others for a longer round trip" readahead.c 's|c->fetch_bytes\[CONN_CLIENT\] <= blocks \* BLOCK_BYTES \&\& !c->fetch_bytes\[CONN_COPIER\]|true|'
mutant "read-ahead goes on where the connection has a queue" readahead.c 's|a->most = a->most / 2 > .*;|;|'
mutant "read-ahead goes back because of the copy" readahead.c 's/ || c->fetch_bytes\[CONN_COPIER\] > c->fetch_bytes\[CONN_CLIENT\])/)/'
mutant "who is given up does not see what has come" fetch.c 's|request_resume(c, r, EIO);|c->waiting--; c->in_flight--; r->error = 5; port_reply(c, r);|'
mutant "who goes leaves what nobody else waits for" request.c '/^void core_abandon/,/^}/s|fetch_forget(c);|if (c->waiting > 1) fetch_forget(c);|'
mutant "the copy does not ask for what was forgotten" fetch.c '/^void fetch_forget/,/^}/s|copier_client_failed(.*;|;|'
mutant "nobody tells the copy that a fetch was forgotten" fetch.c '/^void fetch_forget/,/^}/s|c->kick = true;|;|'
mutant "read-ahead takes one queue for many" readahead.c 's|a->since = c->last_cookie;|;|'
mutant "read-ahead goes further although less is enough" readahead.c 's|else if (2 \* c->fetch_bytes\[CONN_CLIENT\] >= a->most \* BLOCK_BYTES)|else|'
mutant "read-ahead on a slow connection comes to an end" readahead.c 's|a->most / 2 > READAHEAD_MS_BLOCKS ? a->most / 2 : READAHEAD_MS_BLOCKS;|a->most / 2;|'
mutant "read-ahead takes the whole window" readahead.c 's|if (used > room|if (used > 2 * room|'
mutant "read-ahead does not go on" readahead.c 's|s->end = fetch_stretch(c, s->end, stop);|fetch_stretch(c, end, stop); s->end = stop + 1000;|'
mutant "read-ahead goes beyond the disk" readahead.c 's|stop = end + s->blocks < c->map.blocks ? end + s->blocks : c->map.blocks;|stop = end + s->blocks;|'
mutant "whoever reads reads in order: read-ahead for all" readahead.c '/^static bool reads_on/,/^}/s|return .*;|return s->next;|'
mutant "who reads at random makes the read-ahead forget who does not" readahead.c 's|if (is_active(a, s) != is_active(a, oldest) ? is_active(a, oldest) : s->used < oldest->used)|if (s->used < oldest->used)|'
mutant "after a bad block others do the same: read-ahead" fetch_conn.c 's|readahead_failed(c);|;|'
mutant "read-ahead never forgets who read in order" readahead.c 's| \&\& a->reads - s->used < READAHEAD_STREAM_READS;|;|'
mutant "wide read-ahead of blocks that are aligned later" fetch.c 's|conn \&\& conn->unit_blocks == 1 \&\& |conn \&\& |'
mutant "read-ahead although a boot trace is fetched" readahead.c 's/map_is_complete(&c->map) || prefetch_is_on(c)/map_is_complete(\&c->map)/'
mutant "read-ahead takes what is nothing for a measure" readahead.c 's|a->single_us = mean > READAHEAD_MIN_US ? mean : READAHEAD_MIN_US;|a->single_us = mean;|'
mutant "read-ahead is wide however long that takes" readahead.c 's|} else if (mean > READAHEAD_WORTH \* a->single_us) {|} else if (false) {|'
mutant "answers of one millisecond give the read-ahead its round trip" readahead.c 's| \&\& c->now_ms - a->begun_ms >= READAHEAD_SAMPLE)|)|'
mutant "read-ahead is never wide again" readahead.c 's|a->rest--;|;|'
mutant "read-ahead knows a connection that is lost" rtt.c 's|readahead_reset(c);|if (!c->last_cookie) readahead_reset(c);|'
mutant "what read-ahead brings is asked for twice" fetch.c 's/free = ~(c->map.words\[word\] | fetch_in_flight(c, word));/free = ~c->map.words[word];/'
mutant "what read-ahead brings is here already" fetch.c 's/free = ~(c->map.words\[word\] | fetch_in_flight(c, word));/free = ~fetch_in_flight(c, word);/'
mutant "a bad block beside, of the read-ahead, fails a READ" fetch.c 's|bool only_for_r = !f->wide \&\& |bool only_for_r = |'
mutant "who goes and leaves something to do wakes nobody" core.c 's|if (c->kick) /|if (false) /|'
mutant "clients have no more under way on a connection with a delay" rtt.c 's|return has_delay(&c->rtt.CONN_CLIENT.)|return false|'
mutant "clients have more under way on any connection" rtt.c 's|return has_delay(&c->rtt.CONN_CLIENT.)|return true|'
mutant "after a bad block the read-ahead is wide again" request.c 's|request_fetch(c, r, block, false);|request_fetch(c, r, block, true);|'
mutant "the last client's leaving is not noticed" core.c '/^void core_alone/,/^}/s|c->waited_ms = 0;|;|'
mutant "the origin speaks of what has become local since it was asked" block_status.c '/^static void status_finish/,/^}/s|if (status_cut(c, r))|if (false)|'
mutant "the origin speaks of what became local behind the first block" block_status.c '/^static bool status_cut/,/^}/s|if (stop < end)|if (local \&\& stop < end)|'
mutant "the origin is asked about what is here" block_status.c 's/ || status_cut(c, r))/ || (status_cut(c, r), false))/'
mutant "extents count from where the client has asked" block_status.c 's|status_finish(c, q->r, q->start, e, count);|status_finish(c, q->r, q->r->offset, e, count);|'
mutant "an extent goes beyond what was asked for" block_status.c 's|uint64_t stop = at + e->length < end ? at + e->length : end;|uint64_t stop = at + e->length;|'
mutant "flags of the origin that nobody knows are passed on" block_status.c 's|e->flags & (NBD_STATE_HOLE . NBD_STATE_ZERO)|e->flags|'
mutant "BLOCK_STATUS of what is missing is no extent" block_status.c 's|if (!out->count) {|if (false) {|'
mutant "extents are asked for not in the origin's blocks" block_status.c 's|q->start = r->offset / unit \* unit;|q->start = r->offset;|'
mutant "the origin is asked about extents behind its end" block_status.c 's|if (length > c->size_bytes - q->start)|if (false)|'
mutant "any number of questions about extents is out" block_status.c 's/ || n >= QUERIES_MAX//'
mutant "who asks about extents waits for a silent origin" block_status.c 's/if (!r || c->now_ms - r->begun_ms < most)/if (true)/'
mutant "nobody is woken for who asks about extents" core.c 's/(hold_runs(c) || c->queries)/hold_runs(c)/'
mutant "who asks about extents waits longer than --hold" block_status.c 's|c->hold_ms \&\& c->hold_ms < STATUS_WAIT_MS ? c->hold_ms : STATUS_WAIT_MS|STATUS_WAIT_MS|'
mutant "extents that are asked for over a connection that is lost" fetch_conn.c 's|status_conn_lost(c, conn);|;|'
mutant "with one connection all questions about extents are lost" block_status.c 's|if ((\*p)->conn == conn)|if (true)|'
mutant "who goes is told of extents later" block_status.c '/^void status_abandon/,/^}/s|q->r = NULL;|;|'
mutant "who writes waits for a look for data" request.c '/^void request_find_data/,/^}/{s|r->state = REQ_DISK;|request_read(c, r);|;s|prepare_io(r);|return;|}'
mutant "a look for data gives a range back" request.c '/^static void disk_done/,/^}/s|if (r->type == NBD_CMD_READ)|if (true)|'
mutant "an error about extents is an answer" block_status.c 's|error ? 0 : count|count|'
mutant "a header that cannot be read has said nothing of a sync that failed" ../storage/header.c 's/unread |= n < 0;/;/'
mutant "the newest header is written over in place" ../storage/header.c 's|(off_t)(base + (h->counter - 1) % STATE_COPIES \* STATE_COPY_BYTES + from)|(off_t)from|'
mutant "the copy asks for what clients ask for at its end" copier.c 's/ || (k->at_end \&\& !old))/)/'
mutant "the copy does not ask for what clients had asked for before its end" copier.c 's/(k->at_end \&\& !old)/k->at_end/'
mutant "a start overwrites the only header that is on the disk, because it has read a newer one in memory" ../storage/header.c 's|^\tposix_fadvise(fd.*|\t;|'
mutant "the counter of the header is not raised" ../storage/header.c 's|d->header.counter++;|if (!d->header.counter) d->header.counter++;|'
mutant "the counter of the header is not raised at a start" ../storage/store_create.c 's|h->counter = counter + 1;|h->counter = counter ? counter : 1;|'
mutant "a header that could not be written counts" ../storage/header.c 's|d->header.counter--;|;|'
mutant "what came last is remembered before its bit is in the file" fetch_store.c '/^static void store_end/,/^}/s|persist_add(c, &f->persist);|c->recent[c->recents++ % STATE_RECENT] = (struct state_recent){ f->first, 1 }; persist_add(c, \&f->persist);|'
mutant "what came last is remembered although its bit is not in the file" fetch_store.c 's|if (!error \&\& !f->zero)|if (!f->zero)|'
mutant "a block that a client has written is compared with what has come" ../storage/identity.c 's| \&\& !has_bit(d->written, block / WRITTEN_BLOCKS);|;|'
mutant "what the last server has remembered is kept" ../storage/store_create.c 's|^\tmemset(h->recent, 0, sizeof(h->recent));.*|\t;|'
mutant "what came last has to be here after a power cut" ../storage/store.c 's|identity_content(d, how == START_BOTH)|identity_content(d, true)|'
mutant "of what came last nothing is forgotten with its bit" ../storage/identity.c 's|return has_bit(d->words, block) \&\& |return |'
mutant "the older copy of the header counts" ../storage/header.c 's|copy.counter > h->counter|copy.counter < h->counter|'
mutant "what a client writes is published when its bit is set in memory" request.c '/^static void write_done/,/^}/s|r->state = REQ_BITMAP;|r->state = REQ_BITMAP; publish(c, whole_first(r), whole_end(c, r));|'
mutant "what the origin sends is published when its bit is set in memory" fetch_store.c '/^static void store_end/,/^}/s|persist_add(c, &f->persist);|persist_add(c, \&f->persist); publish(c, f->first, f->end);|'
mutant "a block is published before it is local" fetch_store.c '/^void fetch_store(/,/^}/s|f->io.error = 0;|f->io.error = 0; if (c->published) c->published[f->first / 32] \|= 1u << f->first % 32;|'
mutant "a published bit is cleared" published.c 's/\*word | bits_in_word/bits_in_word/'
mutant "a front tests the bits after its READ" ../../tests/sim/fronts.c 's|^\tif (!is_published(r))$|\tif (false)|; /^static void read_end/,/^}/s|^\tif (false)$|\tif (!is_published(r)) { drop(r); return; }\n\tif (false)|'
mutant "after a switch by force all counts as published" switch.c '/^static void become_target/,/^}/s|^\tprefetch_stop(c);|\tc->all_published = true; prefetch_stop(c);|'
mutant "one block too many is published" published.c '/^void publish(/,/^}/s|^\twhile (c->published|\tend += end < c->map.blocks;\n&|'
mutant "one block too few is published" published.c '/^void publish(/,/^}/s|^\twhile (c->published|\tend -= end - first > 1;\n&|'
mutant "the last block of a READ, in part, need not be published" published.c 's|map_blocks(offset + length));|(offset + length) / BLOCK_BYTES);|'
mutant "of the words of a READ only the first is looked at" published.c '/^static bool is_published/,/^}/s|while (first < end)|if (first < end)|'
mutant "a start publishes a block that is in no file" published.c '/^void publish_begin/,/^}/s|publish(c, first, end);|{ publish(c, first, end); if (end < c->map.blocks) c->published[end / 32] \|= 1u << end % 32; }|'
mutant "a start publishes nothing" core.c 's|publish_begin(c);|publish_all(c);|'
mutant "all counts as published one block early" published.c 's|if (map_is_complete(&c->map))|if (c->map.local + 1 >= c->map.blocks)|'
mutant "all counts as published while bits are on their way" commit.c 's| \&\& !c->persist_next||'
mutant "that all is published is never noticed" commit.c 's|^\t\tpublish_all(c);|\t\t;|'
mutant "what could not be written to the bitmap is published" commit.c 's|ENABLE_FEATURE_XNBD_SERVER_THREADS \&\& !c->bitmap_error)$|ENABLE_FEATURE_XNBD_SERVER_THREADS)|; s|^#include <string.h>|&\n#undef assert\n#define assert(x)|'
mutant "a trace does not name what a front reads" request.c '/^void core_has_read/,/^}/s|trace_add(.*|;|'
mutant "a front does not tell of a READ while a trace is recorded" published.c 's|^\tif (ENABLE_FEATURE_XNBD_SERVER_TRACE.*|\tif (false)|'
mutant "read-ahead does not go on behind a front's READ" request.c '/^void core_has_read/,/^}/s|readahead_read(.*|;|'
mutant "a front does not tell of a READ that read-ahead wants to see" published.c 's|!is_published(c, end, stop)|!is_published(c, end, end + (end < stop))|'
mutant "the cover goes while clients write" switch.c '/^static void switch_committed/,/^}/s|core_freeze(c, &c->switch_freeze);|port_switch(c, is_whole(c));|; /^void core_switched/,/^}/s|core_thaw(c, &c->switch_freeze);|core_run(c);|'
mutant "what is whole is not recorded as that when another commit has begun" switch.c '/^static void switch_frozen/,/^}/s|c->switch_whole|is_whole(c)|'
mutant "the cover goes before all is committed" switch.c 's|if (ENABLE_FEATURE_XNBD_SERVER_VERIFY \&\& c->written.map.words \&\& !map_is_complete(&c->map))|if (c->covered) switch_committed(\&c->switch_commit, 0); else &|'
mutant "the cover goes unsynced" ../storage/cover.c '/^static void uncover_run/,/^}/s|error : sync_image(d);|error : 0;|'
mutant "the end of the cover is recorded before the bytes are there" ../storage/cover.c '/^void cover_lift/,/^}/s|submit(d, uncover_run, uncover_done);|d->switching.cover = d->header.cover; d->header.cover = 0; header_save(d); submit(d, uncover_run, uncover_done);|'
mutant "the first bytes do not come out of the cover" ../storage/cover.c '/^static void uncover_run/,/^}/s|error \&\& end;|error \&\& end > COPY_BYTES;|'
mutant "the image stays covered in memory" ../storage/disk_switch.c 's|d->covered = false;|;|'
mutant "a cover hides nothing" ../storage/cover.c '/^static int hide/,/^}/s|return image_transfer(d, true, buf, n, offset);|return 0;|'
mutant "what is hidden is not synced" ../storage/cover.c '/^int cover_hide/,/^}/s|error = sync_image(d);|;|'
mutant "a sync that fails when what was shown is hidden again is lost" ../storage/cover.c '/^static void hide_done/,/^}/s|if (d->switching.sync_failed)|if (false)|'
mutant "a start that dies of a sync tells nobody" ../storage/store_create.c 's|if (d->switching.sync_failed \&\& header_tell(d, false))|if (false)|'
mutant "a cover that a sync has lost is not written again" ../storage/cover.c '/^int cover_rewrite/,/^}/s|for (; !error \&\& at < end; at += n)|for (; false; at += n)|; /^int cover_rewrite/,/^}/s|, n;|, n = 0;|'
mutant "ends that look hidden are so, after a sync that failed, too" ../storage/store_create.c 's|cover_end(d, how == START_BOTH);|cover_end(d, true);|'
mutant "a start that hides the ends again says before that the bits are of this boot" ../storage/store_create.c 's|header_tell(d, how == START_BOTH)|0|'
mutant "the ends are synced beside a FLUSH" ../storage/cover.c 's|disk_sync_begin(d, &d->switching.job);|pool_submit(\&d->switching.job);|; s|disk_sync_end(d);|;|'
mutant "a bad sector in one copy of the header hides the other" ../storage/header.c 's|trouble = n < 0 ? strerror(errno) : |if (n < 0) return strerror(errno); trouble = |'
mutant "ends that were shown for a switch that failed are not hidden again" ../storage/cover.c '/^static void hide_run/,/^}/s|cover_hide(.*);|(void)j;|; s|^int cover_hide|UNUSED_PARAM &|'
mutant "a switch whose record failed hides nothing again" ../storage/disk_switch.c '/^void disk_switch_saved/,/^}/s|if (cover_is_on(d) \&\& !d->save.error)|if (false)|'
mutant "ends are hidden although the header may say that there is no cover" ../storage/disk_switch.c '/^void disk_switch_saved/,/^}/s|cover_is_on(d) \&\& !d->save.error|cover_is_on(d)|'
mutant "the cover of what is local already is empty" ../storage/store_create.c '/^static void cover_begin/,/^}/s|errno = cover_copy(d, size_bytes, image_bytes);|errno = 0;|'
mutant "a part behind the border is taken for covered" state.c '/^uint64_t cover_place/,/^}/s|if (\*n > end - offset)|if (false)|'
mutant "a sync that fails at a good end is not told to the next start" ../storage/header.c 's|if (h->clean && identity_leave(d, h))|if (h->clean \&\& identity_leave(d, h) \&\& false)|'
mutant "a switch is not recorded" ../storage/disk_switch.c 's|d->header.switched = d->switching.complete;|;|'
mutant "a switch is answered before its record" switch.c '/^static void switch_committed/,/^}/s|port_switch(c, true);|switch_end(c, 0);|'
mutant "a switch by force is recorded as one without missing blocks" switch.c '/^static void switch_frozen/,/^}/s|c->switch_whole|true|'
mutant "a record that failed counts as one" ../storage/disk_switch.c '/^void disk_switch_saved/,/^}/s#SWITCH_RECORDS \&\& d->save.error#SWITCH_RECORDS \&\& false#'
mutant "a start does not read the record of a switch" ../storage/store.c 's|d->switched = store_was_switched(d, how, d->header.size_bytes);|;|'
mutant "a start forgets the record of a switch" ../storage/store_create.c 's|h->switched = h->switched \&\& d->switched;|h->switched = 0;|'
mutant "the program that comes does not know of a switch" core.c 's/config->proxy \&\& !config->switched/config->proxy/'
mutant "the program that comes does not do again what is not answered" ../../tests/sim/run.c '/^static void do_again/,/^}/s|hand_over(s);|;|'
mutant "a client has its turn at the origin as long as it has something to ask" job.c '/^struct job \*queue_pop/,/^}/s|\*find_owner(queue, rest->owner) = rest;|rest->next_owner = *queue; *queue = rest;|'
mutant "all clients are one at the origin" fetch.c 's|f->io.job.owner = owner;|f->io.job.owner = owner ? c : NULL;|'
mutant "who waits for what another client has asked for waits for its turn" fetch.c '/^void fetch_wait/,/^}/s|fetch_hurry(.*|;|'
mutant "after the connection is lost, who waits for what another client has asked for waits for its turn" fetch_conn.c '/^void fetch_conn_lost/,/^}/s|fetch_hurry(.*|;|'
mutant "who waits for what another client has asked for puts it behind its own" job.c '/^void queue_hurry/,/^}/s|if (before != j)|if (true)|'
mutant "who goes leaves his turns to who looks like him" fetch.c '/^void fetch_unwait/,/^}/s|queue_move(.*|;|'
mutant "what is read ahead, and lost with the connection, takes turns with clients" fetch_conn.c '/^void fetch_conn_lost/,/^}/s|if (f->kind == CONN_CLIENT .*|if (false)|'
mutant "clients whose fetches wait stop the copy" copier.c '/^static bool has_room/,/^}/s/!conn || c->queue/!conn || c->queue[CONN_CLIENT] || c->queue/'
mutant "the copy does not stand back when clients' fetches wait" rtt.c 's/return c->queue\[CONN_CLIENT\] ||$/return/'
mutant "the program that comes reads the rest of a READ as a new one, without its blocks" ../../tests/sim/run.c '/^static void do_again/,/^}/s|s->ready = s->read;|s->ready = true;|'
}

# Each copy compiles only what its mutant changes.
[ "${CHECK:-}" ] || make -s build/unit/sim || exit 1
job=0
while [ $job -lt "$jobs" ]; do
	n=0
	(trap - EXIT; list) &
	job=$((job + 1))
done
wait
survivors=$(cat "$T"/*.result | grep -vcE '^(killed|changes something)')
killed=$(cat "$T"/*.result | grep -cE '^(killed|changes something)')
echo "$killed passed, $survivors failed"
[ "$survivors" = 0 ]
