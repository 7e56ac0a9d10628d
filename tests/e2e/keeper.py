# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A keeper stands between a client and a server that dies: it connects again and asks
# again what was not answered, as the kernel's driver does. So its client sees no crash.
# Every write goes on with FUA: a write that was answered survives a power cut too.
import socket, struct, threading, time
from peer import DISC, READ, WRITE, OPTION_MAGIC, receive, request, session

FUA = 1


class Keeper:
    def __init__(self, path, server, size):
        self.server, self.size = server, size
        self.answered = 0
        self.errors = []  # what the server answered that a client would not like
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(16)
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            Connection(self, listener.accept()[0])


class Connection:
    def __init__(self, keeper, client):
        self.keeper, self.client = keeper, client
        self.lock = threading.Lock()
        self.pending = {}  # cookie -> (kind, length, the message)
        self.up = None
        self.over = False
        threading.Thread(target=self.from_client, daemon=True).start()

    def handshake(self):
        """Fixed newstyle with simple replies, as the server is spoken to."""
        s = self.client
        s.sendall(b"NBDMAGIC" + struct.pack(">QH", OPTION_MAGIC, 3))
        receive(s, 4)
        while True:
            _, number, length = struct.unpack(">QII", receive(s, 16))
            receive(s, length)
            answer = lambda kind, data=b"": s.sendall(struct.pack(">QIII", 0x3E889045565A9, number, kind, len(data)) + data)
            if number not in (6, 7):
                answer(1 << 31 | 1)
                continue
            answer(3, struct.pack(">HQH", 0, self.keeper.size, 1 | 1 << 2 | 1 << 3))
            answer(1)
            if number == 7:
                return

    def from_client(self):
        try:
            self.handshake()
            threading.Thread(target=self.from_server, daemon=True).start()
            while True:
                _, flags, kind, cookie, offset, length = struct.unpack(">IHHQQI", receive(self.client, 28))
                if kind == DISC:
                    break
                data = receive(self.client, length) if kind == WRITE else b""
                self.ask(cookie, kind, length, request(kind, cookie, offset, length, flags | (FUA if kind == WRITE else 0)) + data)
        except (EOFError, OSError):
            pass
        with self.lock:
            self.over = True
            if self.up:
                self.up.close()
        self.client.close()

    def ask(self, cookie, kind, length, message):
        with self.lock:
            self.pending[cookie] = (kind, length, message)
            try:
                if self.up:
                    self.up.sendall(message)
            except OSError:
                pass  # who reads from it notices too, and asks again

    def reconnect(self):
        while not self.over:
            try:
                s = session(self.keeper.server)
            except (EOFError, OSError):
                time.sleep(0.002)
                continue
            with self.lock:
                self.up = s
                try:
                    for _, _, message in self.pending.values():
                        s.sendall(message)
                except OSError:
                    continue
            return

    def from_server(self):
        while not self.over:
            self.reconnect()
            try:
                while not self.over:
                    self.answer()
            except (EOFError, OSError):
                pass

    def answer(self):
        head = receive(self.up, 16)
        _, error, cookie = struct.unpack(">IIQ", head)
        kind, length, _ = self.pending[cookie]
        if error:
            self.keeper.errors.append(error)
        data = receive(self.up, length) if kind == READ and not error else b""
        with self.lock:
            del self.pending[cookie]
        self.keeper.answered += 1
        try:
            self.client.sendall(head + data)
        except OSError:
            self.over = True
