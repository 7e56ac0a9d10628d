# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""Two clients use a disk, and a model knows what it has to be.

  model.py SOCKET NAME MODEL use [tls]              they read, write and compare
  model.py SOCKET NAME MODEL move [errors] [twice]  the same before, while and after it moves here

MODEL is the file with what is on the disk now; it is what is to be there afterwards. The
two share a block: their halves meet inside it. With `errors` the origin fails now and
then, and what has failed with EIO is tried again. With `twice` the disk does not move before
relay.py has counted two connections: two clients that read may have all blocks before that.
"""
import errno, random, subprocess, sys, threading, time
import nbd

path, name, model_file, what = sys.argv[1:5]
errors = "errors" in sys.argv
model = bytearray(open(model_file, "rb").read())
middle = len(model) // 2 // 4096 * 4096 + 1234
ROUND = 40  # requests of a client, before the copy and after the switch
done = threading.Event()
failures = []


def connect():
    h = nbd.NBD()
    h.set_export_name(name)
    if "tls" in sys.argv[5:]:
        h.set_tls(nbd.TLS_REQUIRE)
        h.set_tls_psk_file("keys")
        h.set_tls_username("alice")
    h.connect_unix(path)
    assert h.get_size() == len(model), (h.get_size(), len(model))
    return h


def again(f, *args):
    """Calls f, and again while the origin's errors are allowed."""
    for _ in range(1000):
        try:
            return f(*args)
        except nbd.Error as e:
            if not errors or e.errnum != errno.EIO:
                raise
    raise RuntimeError("nothing but errors")


class Client:
    def __init__(self, seed, first, end):
        self.h, self.first, self.end, self.dice = connect(), first, end, random.Random(seed)

    def one(self):
        d, h = self.dice, self.h
        n = d.choice((1, 512, 4096, 5000, 65536, 150000))
        at = d.randrange(self.first, self.end - n)
        if d.randrange(2):
            at = max(self.first, at // 4096 * 4096)
        kind = d.randrange(10)
        if kind < 4:
            got = again(h.pread, n, at)
            assert got == model[at:at + n], f"wrong bytes in {n} at {at}"
        elif kind < 7:
            data = d.randbytes(n)
            again(h.pwrite, data, at, nbd.CMD_FLAG_FUA if kind == 6 else 0)
            model[at:at + n] = data
        elif kind == 7:
            again(h.zero, n, at, nbd.CMD_FLAG_NO_HOLE if d.randrange(2) else 0)
            model[at:at + n] = bytes(n)
        elif kind == 8:
            again(h.cache, n, at)
        else:
            again(h.flush)

    def some(self, count):
        for _ in range(count):
            self.one()

    def while_it_moves(self):
        while not done.is_set():
            self.one()


def together(step):
    def run(c):
        try:
            step(c)
        except Exception as e:
            failures.append(f"{type(e).__name__}: {e}")
    threads = [threading.Thread(target=run, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    return threads


def end(threads):
    for t in threads:
        t.join()
    if failures:
        sys.exit("; ".join(failures))


def control(*command):
    r = subprocess.run(["xnbd-bgctl", *command, "ctl.sock"], capture_output=True, text=True)
    return r.returncode, r.stderr.strip()


def connections():
    return int((open("count").read().split() or ["0"])[0])


def connect_twice():
    control("--cache-all2", "--rate", "1")
    until = time.monotonic() + 60
    while connections() < 2 and time.monotonic() < until:
        time.sleep(0.01)


def copy():
    for _ in range(100 if errors else 1):
        code, told = control("--cache-all", "--rate", "16000000")
        if code == 0:
            return
    done.set()
    sys.exit(f"--cache-all: {told}")


clients = [Client(1, 0, middle), Client(2, middle, len(model))]
end(together(lambda c: c.some(ROUND)))
if what == "move":
    if "twice" in sys.argv:
        connect_twice()
    threads = together(Client.while_it_moves)
    copy()
    done.set()
    end(threads)
    code, told = control("--switch")
    if code:
        sys.exit(f"--switch: {told}")
    end(together(lambda c: c.some(ROUND)))
h = clients[0].h
h.flush()
for at in range(0, len(model), 1 << 20):
    n = min(1 << 20, len(model) - at)
    if h.pread(n, at) != model[at:at + n]:
        sys.exit(f"wrong bytes in the MiB at {at}")
for c in clients:
    c.h.shutdown()
open(model_file, "wb").write(model)
print("right")
