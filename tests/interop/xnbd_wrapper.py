# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""The conversation of xNBD 0.4's xnbd-wrapper, as others can see it: both of its ends, for the tests.

  xnbd_wrapper.py ctl SOCKET WORD...   waits for the prompt, sends the words, prints the reply; exits with its return code
  xnbd_wrapper.py wrapper SOCKET       a wrapper that serves nothing, but remembers what it is told; it sends in small pieces
  xnbd_wrapper.py rude SOCKET HOW      greets; then hangs up (gone), or sends what is no reply (long, code)
"""
import socket, sys, urllib.parse

GREETING = b'"help" command displays help for other commands\n'
PROMPT = b'(xnbd) '


def read_until(s, wanted):
    """What comes before the prompt; None: it does not come."""
    data = b''
    while not data.endswith(wanted):
        more = s.recv(4096)
        if not more:
            return None
        data += more
    return data[:-len(wanted)]


def ctl(path, words):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    assert read_until(s, PROMPT) == GREETING
    s.sendall(b' '.join(urllib.parse.quote(w, '').encode() for w in words) + b'\n')
    reply = read_until(s, PROMPT)
    if reply is None:
        sys.exit('the wrapper has hung up')
    lines = reply.decode().splitlines()
    assert lines[-1].startswith('return code ')
    for line in lines[:-1]:
        print(line)
    s.close()
    sys.exit(int(lines[-1].split()[2]))


def send(s, data):
    for i in range(0, len(data), 7):
        s.sendall(data[i:i + 7])


class Wrapper:
    def __init__(self):
        self.images = []

    def add(self, name, file, more=''):
        if any(name == n or file == f for n, f, _ in self.images):
            return ['image cannot be added twice'], 1
        if file.startswith('/nowhere'):
            return ['cannot open ' + file], 1
        self.images.append((name, file, more))
        return [], 0

    def delete(self, is_it):
        left = [i for i in self.images if not is_it(i)]
        found = len(left) < len(self.images)
        self.images = left
        return [], 0 if found else 1

    def run(self, verb, *w):
        if verb == 'list':
            return ['%d %s %s%s' % (i, *image) for i, image in enumerate(self.images)] or ['no item'], 0
        if verb in ('add-target', 'add'):
            return self.add(w[0], w[-1])
        if verb == 'add-proxy':
            return self.add(w[0], w[3], ' of ' + ' '.join(w[1:3] + w[4:]))
        if verb == 'del':
            return self.delete(lambda i: self.images.index(i) == int(w[0]))
        if verb == 'del-file':
            return self.delete(lambda i: i[1] == w[0])
        if verb == 'del-exportname':
            return self.delete(lambda i: i[0] == w[0])
        if verb.startswith('bgctl-'):
            return [verb + ' of ' + '|'.join(w)], 0 if any(i[0] == w[0] for i in self.images) else 3
        return [verb], {'save': 0, 'shutdown': 0, 'orphan': 0}.get(verb, 1)

    def serve(self, path):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        while True:
            s = listener.accept()[0]
            send(s, GREETING + PROMPT)
            for line in s.makefile('rb'):
                words = [urllib.parse.unquote(w) for w in line.decode().split()]
                lines, code = self.run(*words)
                send(s, ''.join(t + '\n' for t in lines).encode() + b'return code %d\n' % code + PROMPT)
                if words[0] == 'shutdown':
                    return
            s.close()


def rude(path, how):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    s = listener.accept()[0]
    if how == 'gone':
        return
    if how == 'garbage':
        s.sendall(b'x' * 20000)
        s.shutdown(socket.SHUT_WR)
        return
    s.sendall(GREETING + PROMPT)
    s.recv(4096)
    s.sendall({'silent': b'', 'long': b'l' * 40000 + b'\nreturn code 0\n', 'code': b'return code 999999999999\n', 'none': b'return code \nreturn code x\nreturn code 7\n'}[how])


if sys.argv[1] == 'ctl':
    ctl(sys.argv[2], sys.argv[3:])
elif sys.argv[1] == 'wrapper':
    Wrapper().serve(sys.argv[2])
else:
    rude(*sys.argv[2:])
