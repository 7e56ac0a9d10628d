# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""QEMU's storage daemon mirrors a file to an NBD server while a client writes to it.

  mirror.py SOCKET NAME SOURCE [tls]    SOURCE is what the server is to have afterwards
"""
import json, os, random, socket, subprocess, sys, time
import nbd

path, name, source = sys.argv[1:4]
tls = "tls" in sys.argv[4:]
daemon = subprocess.Popen([
    "qemu-storage-daemon", "--chardev", "socket,path=qmp.sock,server=on,wait=off,id=q",
    "--monitor", "chardev=q",
    "--blockdev", f"driver=file,filename={source},node-name=f", "--blockdev", "driver=raw,file=f,node-name=source",
    *(("--object", "tls-creds-psk,id=t,endpoint=client,dir=psk,username=alice") if tls else ()),
    "--blockdev", f"driver=nbd,server.type=unix,server.path={path},export={name},node-name=target" + ",tls-creds=t" * tls,
    "--nbd-server", "addr.type=unix,addr.path=front.sock",
    "--export", "type=nbd,id=e,node-name=source,name=,writable=on"])


class Qmp:
    def __init__(self):
        for _ in range(600):
            try:
                s = socket.socket(socket.AF_UNIX)
                s.connect("qmp.sock")
                break
            except OSError:
                time.sleep(0.05)
        self.lines = s.makefile("r")
        self.out = s
        self.events = []
        self.lines.readline()
        self.do("qmp_capabilities")

    def message(self):
        line = self.lines.readline()
        if not line:
            sys.exit("the storage daemon hung up")
        return json.loads(line)

    def do(self, command, **arguments):
        self.out.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            m = self.message()
            if "event" in m:
                self.events.append(m)
            elif "error" in m:
                sys.exit(str(m["error"]))
            else:
                return m["return"]

    def wait(self, event):
        while True:
            while self.events:
                m = self.events.pop(0)
                if m["data"].get("error"):
                    sys.exit(str(m))
                if m["event"] == event:
                    return
            self.events.append(self.message())


dice = random.Random(3)


def write(h, count):
    for _ in range(count):
        n = dice.choice((512, 4096, 70000)) // 512 * 512
        h.pwrite(dice.randbytes(n), dice.randrange(0, h.get_size() - n) // 512 * 512)


try:
    q = Qmp()
    h = nbd.NBD()
    h.connect_unix("front.sock")
    q.do("blockdev-mirror", **{"job-id": "m", "device": "source", "target": "target", "sync": "full",
                               "copy-mode": "write-blocking", "speed": 20000000})
    write(h, 100)
    q.wait("BLOCK_JOB_READY")
    write(h, 100)
    h.flush()
    q.do("block-job-complete", device="m")
    q.wait("BLOCK_JOB_COMPLETED")
    h.shutdown()
    q.do("quit")
    if daemon.wait():
        sys.exit("the storage daemon failed")
    print("right")
finally:
    daemon.kill()
    daemon.wait()
    for p in ("qmp.sock", "front.sock"):
        if os.path.exists(p):
            os.unlink(p)
