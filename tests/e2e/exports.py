# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# For tests of a wrapper with many exports, on w.sock and w.ctl: a client of each, which knows every byte.
import atexit, random, subprocess, threading, time
import nbd

started = []


def uri(name):
    return "nbd+unix:///%s?socket=w.sock" % name


def run(*args):
    return subprocess.run(args, capture_output=True, text=True).returncode


def start(*args):
    """In the background; it does not outlive the test."""
    started.append(subprocess.Popen(args, stderr=open("log", "ab")))
    return started[-1]


@atexit.register
def kill_started():
    for server in started:
        server.kill()


def until(done, seconds=20):
    end = time.time() + seconds
    while not done():
        if time.time() > end:
            raise TimeoutError(done)
        time.sleep(.05)


def control(request):
    return subprocess.run(["socat", "-t", "15", "-", "UNIX-CONNECT:w.ctl"], input=request + "\n", capture_output=True, text=True).stdout


class Client(threading.Thread):
    """Of one export, connected again when the wrapper has died. pause: seconds after each request."""
    def __init__(self, name, image, pause=0):
        super().__init__(daemon=True)
        self.name, self.image, self.requests, self.worst, self.wrong = name, bytearray(image), 0, 0, None
        self.random, self.handle, self.unknown, self.pause, self.stopped = random.Random(name), None, None, pause, False

    def write(self, offset, data):
        self.unknown = offset, data
        self.handle.pwrite(data, offset)
        self.image[offset:offset + len(data)] = data
        self.unknown = None

    def step(self):
        if not self.handle:
            handle = nbd.NBD()
            handle.connect_uri(uri(self.name))
            self.handle = handle
        if self.unknown: # perhaps it was done, perhaps not
            self.write(*self.unknown)
        n = self.random.randrange(1, 16) * 512
        offset = self.random.randrange(0, len(self.image) - n, 512)
        if self.random.random() < .4:
            self.write(offset, self.random.randbytes(n))
        elif self.handle.pread(n, offset) != self.image[offset:offset + n]:
            self.wrong = offset

    def run(self):
        while not self.stopped and self.wrong is None:
            begun = time.time()
            try:
                self.step()
                self.requests += 1
                self.worst = max(self.worst, time.time() - begun)
                time.sleep(self.pause)
            except nbd.Error:
                self.handle = None
                time.sleep(.1)

    def stop(self):
        self.stopped = True
        self.join(20)

    def check(self):
        """All bytes, over a connection of its own; call it when stopped. Sets wrong."""
        if self.is_alive() or self.wrong is not None:
            return
        if self.unknown:
            self.step()
        h = nbd.NBD()
        h.connect_uri(uri(self.name))
        if h.pread(len(self.image), 0) != self.image:
            self.wrong = "all"
        h.shutdown()
