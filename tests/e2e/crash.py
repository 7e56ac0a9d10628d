# SPDX-License-Identifier: GPL-2.0-or-later
# crash.py ROUNDS SEED: a proxy is killed (-9) ROUNDS times while two clients write
# and the background copy runs. A model knows what was acknowledged.
#
# What was acknowledged is there (a cell whose last write was not acknowledged may
# be old or new); no restart knows fewer blocks than the run before; the last run
# fetches what is missing and no more, counted by a relay in front of the origin.
import atexit, random, socket, subprocess, sys, threading, time
import nbd

ROUNDS, SEED = int(sys.argv[1]), int(sys.argv[2])
SIZE, CELL = 48 << 20, 1024  # clients write whole cells: each has one writer
CELLS = SIZE // CELL
rng = random.Random(SEED)
fetched = 0


def relay(path, to):
    """Counts the bytes that come from the origin."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)

    def pump(a, b, count):
        global fetched
        try:
            while data := a.recv(1 << 18):
                fetched += len(data) if count else 0
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve():
        while True:
            a = listener.accept()[0]
            b = socket.socket(socket.AF_UNIX)
            b.connect(to)
            threading.Thread(target=pump, args=(a, b, False), daemon=True).start()
            threading.Thread(target=pump, args=(b, a, True), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def wait_for(path):
    for _ in range(400):
        try:
            h = nbd.NBD()
            h.connect_unix(path)
            return h
        except nbd.Error:
            time.sleep(0.05)
    sys.exit("no server at " + path)


def start_proxy():
    p = subprocess.Popen(["xnbd-server", "--proxy", "--lport", "0", "--unix", "p.sock", "unix:relay.sock", "-",
                          "cache.img", "cache.bm", "ctl.sock"])
    atexit.register(p.kill)
    return p, wait_for("p.sock")


origin_bytes = rng.randbytes(SIZE)
open("origin.img", "wb").write(origin_bytes)
origin = subprocess.Popen(["xnbd-server", "--target", "--readonly", "--lport", "0", "--unix", "o.sock", "origin.img"])
atexit.register(origin.kill)
wait_for("o.sock").shutdown()
relay("relay.sock", "o.sock")

# What a cell may hold: the last acknowledged content, and those sent since.
acked = [origin_bytes[i * CELL:(i + 1) * CELL] for i in range(CELLS)]
maybe = [[] for _ in range(CELLS)]


def writer(parity, seed):
    """Writes cells of one parity, in the first half of the disk, until the server dies."""
    r = random.Random(seed)
    h = nbd.NBD()
    try:
        h.connect_unix("p.sock")
        while True:
            n = r.choice((1, 1, 1, 3, 8))
            first = r.randrange(CELLS // 2 - 2 * n) // 2 * 2 + parity
            cells = [first + 2 * i for i in range(n)]
            flight = []
            for c in cells:
                data = r.randbytes(CELL)
                maybe[c].append(data)
                flight.append((c, data, h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), c * CELL,
                                                     flags=r.choice((0, 0, 0, nbd.CMD_FLAG_FUA)))))
            while flight:
                h.poll(1000)
                for f in list(flight):
                    if h.aio_command_completed(f[2]):
                        acked[f[0]] = f[1]
                        maybe[f[0]] = []
                        flight.remove(f)
    except nbd.Error:
        pass


def check(h, what, offsets):
    """Reads a MiB at each offset, and remembers what was found."""
    for start in offsets:
        data = h.pread(1 << 20, start)
        for c in range(start // CELL, (start + (1 << 20)) // CELL):
            got = bytes(data[c * CELL - start:(c + 1) * CELL - start])
            if got != acked[c] and got not in maybe[c]:
                sys.exit(f"{what}: offset {c * CELL} is wrong: it has "
                     + ("what the origin has" if got == origin_bytes[c * CELL:(c + 1) * CELL] else "neither"))
            acked[c], maybe[c] = got, []


def cached():
    status = subprocess.run(["xnbd-bgctl", "--query", "ctl.sock"], check=True, capture_output=True, text=True).stdout
    return int(dict(line.split(" ", 1) for line in status.splitlines())["cached"])


known = 0
for round_ in range(ROUNDS):
    proxy, h = start_proxy()
    if cached() < known:
        sys.exit(f"round {round_}: {cached()} blocks are local, there were {known}")
    if round_ % 5 == 4:  # reading makes blocks local: a little, and not every time
        check(h, f"round {round_}", [rng.randrange(SIZE >> 20) << 20])
    threads = [threading.Thread(target=writer, args=(i, rng.random())) for i in range(2)]
    for t in threads:
        t.start()
    s = socket.socket(socket.AF_UNIX)
    s.connect("ctl.sock")
    s.sendall(b"cache-all rate=%d\n" % (SIZE // 40))
    time.sleep(rng.uniform(0.01, 0.4))
    known = cached()
    time.sleep(rng.uniform(0, 0.02))
    proxy.kill()
    proxy.wait()
    for t in threads:
        t.join()

proxy, h = start_proxy()
missing = SIZE - cached() * 4096
before = fetched
subprocess.run(["xnbd-bgctl", "--cache-all", "ctl.sock"], check=True)
fetched_now = fetched - before
subprocess.run(["xnbd-bgctl", "--switch", "ctl.sock"], check=True)
origin.kill()
check(h, "at the end", range(0, SIZE, 1 << 20))
h.shutdown()
proxy.terminate()
status = proxy.wait()
print(f"{missing} bytes were missing, the origin sent {fetched_now}", file=sys.stderr)
if not 0 < missing < SIZE or not missing <= fetched_now <= missing + missing // 50 + 4096:
    sys.exit("not what was missing was fetched")
print("ok" if status == 0 else f"exit status {status}")
