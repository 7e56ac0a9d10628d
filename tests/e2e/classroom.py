# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# classroom.py SOCKET PID CLIENTS SECONDS: so many clients of --cow-client, each with an overlay, read 128 KiB at random places for
# so long, one request at a time; longer, until there are a hundred of each, where the machine is slow. Prints what must be; the figures go to the file `figures`.
import os, random, selectors, struct, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer

SOCKET, PID, CLIENTS, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
BYTES = 128 << 10
BUDGET_KIB = (40 << 10) + CLIENTS * 64


class Client:
    def __init__(self, number):
        self.number = number
        self.socket = peer.connect(SOCKET, 60)
        self.size = peer.shake_hands(self.socket)
        self.random = random.Random(number)
        self.mine = self.random.sample(range(0, self.size, BYTES), 16)
        self.reply, self.waits_ms, self.wrong = bytearray(16 + BYTES), [], 0

    def write(self):
        """A block at the begin of a few places is its own."""
        for at in self.mine:
            self.socket.sendall(peer.request(peer.WRITE, 0, at, 4096) + struct.pack("<Q", self.number) * 512)
            self.wrong += peer.reply(self.socket) != (0, 0)

    def ask(self):
        self.at = self.random.choice(self.mine) if self.random.random() < .1 else self.random.randrange(0, self.size, BYTES)
        self.have, self.begun = 0, time.monotonic()
        self.socket.sendall(peer.request(peer.READ, 0, self.at, BYTES))

    def take(self):
        """What has come; True: that was all of a reply."""
        n = self.socket.recv_into(memoryview(self.reply)[self.have:])
        if not n:
            raise EOFError(self.number)
        self.have += n
        if self.have < len(self.reply):
            return False
        self.waits_ms.append((time.monotonic() - self.begun) * 1000)
        own = struct.unpack_from("<Q", self.reply, 16)[0] == self.number
        self.wrong += self.reply[4:8] != bytes(4) or own != (self.at in self.mine)
        return True


clients = [Client(1 + n) for n in range(CLIENTS)]
for c in clients:
    c.write()
ready = selectors.DefaultSelector()
for c in clients:
    ready.register(c.socket, selectors.EVENT_READ, c)
    c.ask()
begun, kib = time.monotonic(), 0
while time.monotonic() - begun < (SECONDS if sum(len(c.waits_ms) for c in clients) >= 100 * CLIENTS else 60):
    for key, _ in ready.select():
        if key.data.take():
            key.data.ask()
    kib = max(kib, peer.resident_kib(PID))
seconds = time.monotonic() - begun
reads = sorted(len(c.waits_ms) for c in clients)
waits = sorted(ms for c in clients for ms in c.waits_ms)
print("all are here:", len(clients), "wrong bytes:", sum(c.wrong for c in clients))
print("fair" if reads[0] * 2 >= reads[-1] > 0 else "reads of each: %s" % reads)
print("bounded" if kib < BUDGET_KIB else "%d KiB" % kib)
with open("figures", "w") as f:
    print("%d clients, %.1f s: %d reads of 128 KiB (%d MB/s), %d to %d each; p50 %.1f ms, p99 %.1f ms, longest %.1f ms; %d KiB of memory" %
          (CLIENTS, seconds, len(waits), len(waits) * BYTES / seconds / 1e6, reads[0], reads[-1], waits[len(waits) // 2],
           waits[len(waits) * 99 // 100], waits[-1], kib), file=f)
