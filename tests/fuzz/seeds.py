#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""tests/fuzz/seeds.py DIR: what the fuzzers began with, before their corpus was.

Well-behaved conversations, which a fuzzer then spoils. Needed again when script.h or what
is under test has changed. A corpus is made of these, of itself and of what make fuzz has
found: build/fuzz/NAME -set_cover_merge=1 -use_counters=0 EMPTY DIR...
"""
import os
import struct
import sys

PROXY, READONLY, OLDSTYLE, POOR, HOLD, SLOW, AGAIN, CACHE = (1 << i for i in range(8))
SIMPLE, NO_STATUS, UNIT, MULTI, SICK = (1 << i for i in range(3, 8))
BY_HAND, VERIFIED, SMALL = 1 << 4, 1 << 5, 1 << 6
READ, WRITE, DISC, FLUSH, TRIM, CACHE_CMD, ZERO, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST = (1 << i for i in range(5))


def be(fmt, *args):
    return struct.pack('>' + fmt, *args)


def option(number, data=b''):
    return b'IHAVEOPT' + be('II', number, len(data)) + data


def name(text=b''):
    return be('I', len(text)) + text


FLAGS = be('I', 1)
EXPORT_NAME = FLAGS + option(1)
GO = option(7, name() + be('HH', 1, 3))
CONTEXT = name() + be('I', 1) + name(b'base:allocation')
STRUCTURED = FLAGS + option(8) + option(10, CONTEXT) + GO


def request(kind, offset=0, length=4096, cookie=1, flags=0, data=b''):
    return be('IHHQQI', 0x25609513, flags, kind, cookie, offset, length) + data


WORK = (request(READ, 0, 8192) + request(WRITE, 5000, 3072, 2) + b'|*|#\3' + request(READ, 4096, 4096, 3) +
        request(FLUSH, 0, 0, 4))
MIX = (request(STATUS, 0, 65536, 5) + request(STATUS, 0, 65536, 6, REQ_ONE) + request(CACHE_CMD, 8192, 65536, 7) +
       request(TRIM, 16384, 16384, 8) + request(ZERO, 40000, 10000, 9) + request(ZERO, 40960, 8192, 10, NO_HOLE | FUA) +
       request(ZERO, 0, 4096, 11, FAST) + request(READ, 100, 100000, 12, DF) + request(READ, 1 << 40, 10, 13) +
       request(99, 0, 0, 14) + request(WRITE, 0, 4096, 15, FUA) + b'|*|#\4' + request(READ, 0, 200000, 16))


def head(server, origin=0, more=0):
    return bytes([server, origin, more])


def sessions():
    yield head(0) + EXPORT_NAME + WORK
    yield head(PROXY) + EXPORT_NAME + WORK + request(DISC)
    for server in (0, READONLY, PROXY, PROXY | READONLY, PROXY | SLOW | AGAIN, PROXY | POOR, PROXY | CACHE | AGAIN):
        for origin in (0, SIMPLE | 7, UNIT | MULTI | 6, SICK | NO_STATUS, 3, 4):
            yield head(server, origin) + STRUCTURED + WORK + MIX + b'|*|.' + request(READ, 8192, 40000, 20)
    yield head(OLDSTYLE) + WORK + MIX
    yield head(PROXY | OLDSTYLE | READONLY) + request(READ, 0, 307200) + request(READ, 307200, 434)
    yield head(PROXY | POOR, 7) + STRUCTURED + b'|*|u' + request(READ, 0, 300000) * 3 + b'|*|b' + EXPORT_NAME + WORK + b'|*|T'
    yield head(PROXY, 0, 5) + STRUCTURED + request(READ, 0, 300000) + b'|*|t' + request(READ, 8192, 8192, 9)
    yield head(PROXY | HOLD, MULTI) + STRUCTURED + b'|*|h' + request(READ, 0, 4096) + b'|*|T' + b'|*|ccache-all|*|x'
    yield head(PROXY | SLOW) + STRUCTURED + WORK + b'|*|j|*|J|*|.' + request(READ, 0, 65536, 8) + b'|*|x|*|j|*|b' + EXPORT_NAME
    yield head(PROXY | AGAIN) + STRUCTURED + WORK + b'|*|!|*|a' + STRUCTURED + request(READ, 0, 8192, 8)
    yield head(PROXY | SLOW) + STRUCTURED + WORK + b'|*|!|*|a' + STRUCTURED + request(READ, 0, 8192, 8)
    yield head(PROXY) + EXPORT_NAME + b'|*|d' + WORK + b'|*|d' + WORK
    yield head(PROXY) + EXPORT_NAME + b'|*|f' + WORK + b'|*|s' + WORK
    yield head(PROXY, MULTI) + b'|*|kcache-all\n|*|.|*|t|*|s|*|a' + STRUCTURED + WORK
    yield head(PROXY) + b'|*|kswitch force\n|*|.|*|a' + STRUCTURED + WORK + MIX
    yield head(PROXY) + FLAGS + option(3) + option(6, name() + be('H', 0)) + option(5) + option(9, name() + be('I', 0)) + option(2)
    yield head(PROXY) + FLAGS + option(99, b'z' * 100) + be('QII', 0x49484156454f5054, 8, 20000) + b'|*|#\x14' + GO


def controls():
    lines = [b'status', b'switch', b'switch force', b'cache-all', b'cache-all follow', b'cache-all follow rate=1000',
             b'cache-all blocks=1 rate=100000', b'pause', b'resume', b'cancel', b'reconnect host=127.0.0.1 port=1',
             b'reconnect host=unix:/x port=- exportname=a%20b force', b'reconnect host=%zz', b'nonsense', b'']
    for line in lines:
        yield head(PROXY) + line + b'\n'
        yield head(PROXY | AGAIN, MULTI | 7) + b'status\n' + line + b'\n|*|m' + b'status\n|*|lcancel\nstatus\n|*|t'
        yield head(PROXY, SICK | 6) + b'cache-all follow\n' + line + b'\n|*|.|*|l' + line + b'\n|*|w|*|t|*|t'
    yield head(PROXY | CACHE, 0) + b'cache-all follow\n|*|x|*|l' + b'status\n' * 20 + b'|*|u|*|T'
    yield head(PROXY | HOLD, 0, 5) + b'cache-all follow\n|*|T|*|h' + b'reconnect host=unix:/y port=-\n|*|T'
    yield head(PROXY, 7) + b'cache-all rate=4096\n|*|tpause\n|*|t|*|lresume\n|*|tcache-all\n|*|T'
    for where in (b'host=unix:/origin port=-', b'host=127.0.0.1 port=1 exportname=x'):
        yield head(PROXY, 6) + b'reconnect ' + where + b'\n|*|tcache-all\n|*|tstatus\n'
        for change in (b'|*|z', b'|*|y'):
            yield head(PROXY | AGAIN, 6) + change + b'|*|kreconnect ' + where + b'\n|*|.|*|tstatus\n|*|T'
            yield head(PROXY, 6) + change + b'|*|kreconnect ' + where + b' force\nreconnect ' + where + b'\n|*|tstatus\n'
            yield head(PROXY | SLOW, MULTI) + b'cache-all\n' + change + b'|*|kreconnect ' + where + b' force\n|*|j|*|J|*|x'
            yield head(PROXY, MULTI) + b'cache-all rate=8192\n|*|t' + change + b'|*|h|*|T|*|.|*|T' + change + b'|*|kstatus\n'
    yield head(PROXY | SLOW) + b'cache-all\n|*|lswitch force\n|*|x|*|kcache-all follow\n' + b'|*|j' * 9
    yield head(PROXY) + b'status\n' * 300 + b'|*|u|*|kcache-all follow\n' + b'status\n' * 900 + b'|*|T|*|u|*|kstatus'
    yield head(PROXY, 7) + struct.pack('=I', 1) + b'|*|l' + struct.pack('=I', 2)
    yield head(PROXY, 7) + struct.pack('=III', 3, 0, 1) + b'|*|l' + struct.pack('=I', 4) + b'|*|t'
    yield head(PROXY, 7) + struct.pack('=I', 5) + struct.pack('=I', 6) + b'|*|l' + struct.pack('=I', 0)


REPLY = 0x3e889045565a9


def answer(opt, kind, data=b''):
    return be('QIII', REPLY, opt, kind, len(data)) + data


def info(size=1 << 20, flags=0x101, block=None):
    out = answer(7, 3, be('HQH', 0, size, flags))
    return out + (answer(7, 3, be('HIII', 3, *block)) if block else b'') + answer(7, 1)


GREETING = b'NBDMAGICIHAVEOPT' + be('H', 3)
HELLO = GREETING + answer(8, 1) + answer(10, 4, be('I', 7) + b'base:allocation') + answer(10, 1)
PLAIN = GREETING + answer(8, 0x80000001)
OLD = b'NBDMAGIC' + be('QQI', 0x00420281861253, 1 << 20, 1) + bytes(124)


def simple(cookie, data=b'', error=0):
    return be('IIQ', 0x67446698, error, cookie) + data


def chunk(cookie, kind, data=b'', flags=1):
    return be('IHHQI', 0x668e33ef, flags, kind, cookie, len(data)) + data


def handshakes():
    yield HELLO + info()
    yield HELLO + info(4097, 1, (4096, 4096, 1 << 25))
    yield HELLO + info(1 << 63, 1)
    yield HELLO + info(1 << 20, 1, (65536, 65536, 4096))
    yield PLAIN + info()
    yield PLAIN + answer(7, 0x80000001) + be('QH', 1 << 20, 3)
    yield GREETING + answer(8, 1) + answer(10, 0x80000003) + info()
    for error in (1, 2, 4, 5, 6, 7, 8, 9):
        yield PLAIN + answer(7, 0x80000000 + error, b'no\n')
    yield b'NBDMAGICIHAVEOPT' + be('HQH', 0, 1 << 20, 1) + bytes(124)
    yield OLD
    yield b'SSH-2.0-server\r\n'
    yield b'NBD'


def clients(ops=b''):
    """The driver of the origin: a client that asks for all, and the copy."""
    return b'|*|a' + EXPORT_NAME + request(READ, 0, 65536) + request(READ, 200000, 5000, 2) + b'|*|kcache-all follow\n|*|o' + ops


def origins():
    for h in handshakes():
        yield head(PROXY | READONLY, 6, BY_HAND) + h + b'|*|.|*|R|*|R'
    samples = b''.join(simple(i + 1) + b'|*|#\4' for i in range(32))
    yield head(PROXY, 6, BY_HAND) + PLAIN + info() + samples + clients(simple(1) + b'|*|#\x40')
    for origin in (6, SIMPLE | 6, 0, MULTI | 6, UNIT | 7):
        begin = head(PROXY, origin, BY_HAND | VERIFIED) + clients()
        for cookie in (1, 2, 3):
            yield begin + simple(cookie) + b'|*|#\x40' + b'|*|R|*|t'
            yield begin + simple(cookie, b'', 5) + b'|*|R|*|t'
            yield begin + chunk(cookie, 1, be('Q', 0) + b'a' * 4096, 0) + chunk(cookie, 2, be('QI', 4096, 61440)) + b'|*|R'
            yield begin + chunk(cookie, 1, be('Q', 32768) + b'a' * 100, 0) + chunk(cookie, 2, be('QI', 100, 200), 0) + chunk(
                cookie, 1, be('Q', 32760) + b'a' * 20)
            yield begin + chunk(cookie, 1, be('Q', 61440) + b'a' * 8192)
            yield begin + chunk(cookie, 2, be('QI', 8192, 1 << 20))
            yield begin + chunk(cookie, 5, be('I', 1) + be('II', 4096, 3) * 700)
            yield begin + chunk(cookie, 0x8001, be('IH', 5, 2) + b'no') + b'|*|R'
            yield begin + chunk(cookie, 0x8002, be('IHQ', 5, 0, 4096)) + b'|*|R'
            yield begin + chunk(cookie, 5, be('IIIII', 1, 65536, 0, 983040, 3)) + b'|*|R|*|t|*|R'
            yield begin + chunk(cookie, 0) + b'|*|R'
    yield head(PROXY | HOLD, 6, BY_HAND | VERIFIED) + clients(b'|*|T|*|T') + b'|*|R'


def replies():
    group = (b'job running\njob_found 10\njob_fetched 20\njob_rate 123456789\njob_eta 12\nblocks 256\ncached 30\n'
             b'origin_state up\npercent 11.7%\n')
    for command in range(8):
        for terminal in (0, 8, 13, 14, 15):
            begin = bytes([command, terminal])
            yield begin + b'ok\n'
            yield begin + group + b'|*|' + group.replace(b'up', b'connecting') + b'ok\n|*|ok\n'
            yield begin + group + b'error 3 blocks are missing\n|*|'
    yield b'\0\0' + b'mode proxy\npid 17\n' + group[:20] + b'|*|' + group[20:]
    yield b'\0\0' + b'x' * 5000 + b' y\nok\n'
    yield b'\1\x0d' + b'job_eta ' + b'9' * 100 + b'\npercent ' + b'9' * 100 + b'\nok\n'


NUMBER, FD, TEXT, PATH, EXPORT, PROXIED, CONTROL, DEVICE, SESSION, REPLIED, REQUESTED, PIECE = range(12)
AT_NULL, AT_CLIENTS, AT_CONTROL, AT_SOCKET, AT_IMAGE, AT_BITMAP, AT_COMMIT, AT_KEYS, AT_DIRECTORY = range(1, 10)


def record(kind, data=b'', more=b''):
    return be('BH', kind, len(more)) + data + more


def command(kind, offset, length, bytes_=0, flags=0, at=None, rest=None, begun=0, held=0, payload=0, error=0, header=b'', data=b'', what=REQUESTED):
    at, rest = offset if at is None else at, length if rest is None else rest
    return record(what, struct.pack('=4BI', begun, held, payload, 0, bytes_) + struct.pack('=QIHH', offset, length, kind, flags) +
                  struct.pack('=QQII', 77, at, rest, error) + bytes([len(header)]) + header.ljust(39, b'\0'), data)


def session(commands=b'', state=1, got=b'', sending=b'', flags=(1, 1, 0, 0, 0, 0), opened=0, sent=0):
    return (record(SESSION, struct.pack('=i4B6BHIIIIQQ', AT_SOCKET, opened, 0, 0, 0, *flags, 0, 0, 0, state, sent, 0, 0), got) +
            record(TEXT, b'', sending) + record(TEXT) + commands)


def states():
    """What another program hands over. size: as of head(PROXY) and an origin of that number."""
    for proxy, wrapper, index, size in ((0, 0, 0, 75 * 4096 + 434), (1, 0, 0, 75 * 4096 + 434), (1, 1, 0, 75 * 4096 + 434), (1, 0, 6, 1 << 20)):
        begin = bytes([proxy | wrapper * 4, index, 0xff, 0xff, 0]) + record(FD, struct.pack('=i', 0)) * 2 + record(TEXT)
        begin += record(NUMBER, struct.pack('=Q', 1)) + record(FD, struct.pack('=i', AT_CLIENTS))
        files = (AT_IMAGE, 0, 0, 0, 0, 0)
        if proxy:
            files = (AT_IMAGE, AT_BITMAP, AT_COMMIT, AT_COMMIT, 0, 0)
        begin += record(EXPORT, struct.pack('=6i4BIQQQ', *files, 0, 0, 0, 0, 512, 0, size, 0), b'a' * wrapper) + record(TEXT, b'', b'/image') * 3
        begin += record(NUMBER, struct.pack('=Q', 1))
        copies = [(0, 0), (1, 0), (2, 1)] if proxy else [None]
        for i, copy in enumerate(copies):
            keys = bool(i)
            at = begin + record(TEXT, b'', b'/keys' if keys else b'') + record(FD, struct.pack('=i', AT_KEYS if keys or not proxy else 0))
            if proxy:
                runs = struct.pack('=QQQQ', 7, 10, 1, 5)
                at += record(PROXIED, struct.pack('=QQQQII', 0, 5000, 0, 0, *copy))
                if wrapper:
                    at += record(TEXT, b'', b'nbd://- cache=/image bitmap=/bitmap control=/control rate=4000 auto-switch')
                at += record(TEXT, b'', b'unix:/origin') + record(TEXT, b'', b'-') + record(TEXT) + record(TEXT, b'', b'/keys' if keys else b'')
                at += record(TEXT, b'', b'/hook' if i else b'') + record(TEXT, b'', b'/image' if i else b'') + record(NUMBER, bytes(8))
                at += record(FD, struct.pack('=i', AT_DIRECTORY if i and not wrapper else 0))
                at += record(TEXT, b'', runs if i else b'') + record(TEXT, b'', runs if i != 1 else b'')
            follows = record(CONTROL, struct.pack('=i8BIQ', AT_SOCKET, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0), b'stat') + record(TEXT, b'', b'job running\n')
            talks = record(CONTROL, struct.pack('=i8BIQ', AT_SOCKET, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0), b'list\n') + record(TEXT)
            if wrapper:
                at += record(FD, struct.pack('=i', AT_CONTROL)) + follows
            end = record(FD, struct.pack('=i', AT_CONTROL)) + (talks if wrapper else follows if proxy else b'')
            works = [
                b'', session(state=0, flags=(0,) * 6), session(state=0, got=b'IHAVEOPT', sending=GREETING), session(state=2),
                session(command(READ, 0, 8192) + command(FLUSH, 0, 0) + command(ZERO, 4096, 65536) + command(TRIM, 0, 65536, flags=FUA)),
                session(command(READ, 0, 8192, 4096, header=simple(77), data=bytes(4096), what=REPLIED), sent=7),
                session(command(READ, 0, 65536, 4096, header=simple(77), data=bytes(4096), what=REPLIED) +
                        command(FLUSH, 0, 0, held=1, header=simple(78), what=REPLIED) +
                        command(READ, 0, 65536, at=4096, rest=61440, begun=1), opened=1),
                session(command(WRITE, 0, 8192, 8192, rest=0, data=b'w' * 8192)),
                session(command(WRITE, 0, 8192, 8192, rest=0, payload=1, data=b'w' * 100), got=b'w' * 500),
                session(command(WRITE, 0, 65536, payload=1, at=8192, rest=57344) + command(WRITE, 0, 4096, 4096, data=b'w' * 4096, what=PIECE) +
                        command(WRITE, 4096, 4096, 4096, data=b'w' * 9, what=PIECE)),
                session(command(WRITE, 1 << 40, 4096, payload=1, error=28)),
                session(command(STATUS, 0, 65536) + command(STATUS, 4096, 65536, flags=REQ_ONE), flags=(1, 1, 1, 1, 1, 0)),
            ]
            for work in works:
                yield at + work + end
        yield begin + works[4] * 3 + end


def fnv(data):
    h = 0xcbf29ce484222325
    for b in data:
        h = (h ^ b) * 0x100000001b3 % (1 << 64)
    return h


def commit_file(size, bits):
    header = b'XNBDCMT1' + struct.pack('=I', 0x01020304) + be('IQ', 4096, size) + bytes(40) + bytes(256)
    header += bytes(504 - len(header))
    return header + be('Q', fnv(header)) + bits


def start_files():
    sizes = [75 * 4096 + 434, 0, 1, 4096, 4097, 17 * 4096, 1 << 20, (3 << 20) + 512]
    for i, size in enumerate(sizes):
        blocks = (size + 4095) // 4096
        words = (blocks + 63) // 64
        some = struct.pack('=%dQ' % words, *[0x0f0f0f0f0f0f0f0f] * words)
        every = struct.pack('=%dQ' % words, *[0xffffffffffffffff] * words)
        for bits in (some, every, bytes(8 * words)):
            for how in (0, 0xf, 0xd, 0x1f, 0x2f, 0x4f, 0x8f, 0x8):
                yield head(PROXY | AGAIN, i) + bytes([how]) + be('H', len(bits)) + bits + commit_file(size, bits)
    yield head(PROXY, 0) + bytes([0x1f]) + be('H', 0) + commit_file((1 << 64) - 1, b'')
    yield head(PROXY, 0) + bytes([0]) + be('H', 0)


def server_handshakes():
    for piece in (b'\0', b'\1', b'\x13'):
        yield piece + EXPORT_NAME
        yield piece + STRUCTURED
        yield piece + FLAGS + option(1, b'other')
        yield piece + FLAGS + option(3) + option(6, name(b'other') + be('HHHH', 3, 0, 1, 3)) + option(7, name(b'no') + be('H', 0))
        yield piece + FLAGS + option(8) + option(9, name() + be('I', 2) + name(b'base:') + name(b'x:y')) + GO
        yield piece + FLAGS + option(5) + option(8, b'x') + option(99) + option(2)
        yield piece + be('I', 0) + option(1)
        yield piece + FLAGS + option(8) + option(10, CONTEXT) + option(10, name(b'other') + be('I', 1) + name(b'base:allocation')) + GO
        yield piece + FLAGS + b'IHAVEOPT' + be('II', 3, 20000) + b'z' * 3000


# tls_life.h
T_RAW, T_PLAIN, T_BINDER, T_MESSAGE, T_RECORD, T_FINISHED, T_HELLO, T_LONG = range(8)


def extension(number, data):
    return be('HH', number, len(data)) + data


def vector(fmt, data):
    return be(fmt, len(data)) + data


def tls_hello(share, *names):
    """The body of a ClientHello, with room for a binder."""
    names = b''.join(vector('H', n) + bytes(4) for n in names)
    extensions = (extension(43, b'\2\3\4') + extension(10, b'\0\4\0\x17\0\x1d') + extension(45, b'\1\1') +
                  extension(51, vector('H', share)) + extension(41, vector('H', names) + vector('H', b'\x20' + bytes(32))))
    return b'\3\3' + bytes(32) + b'\0' + vector('H', b'\x13\3') + b'\1\0' + vector('H', extensions)


def tls_script(piece, *steps):
    return bytes([piece]) + b''.join(bytes([kind, len(data)]) + data for kind, data in steps)


def tls_seeds(server):
    key = b'\0\x1d' + vector('H', b'\x09' + bytes(31))
    retry = bytes.fromhex('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c')
    head = b'\3\3' + retry + b'\0\x13\3\0'
    extensions = extension(43, b'\3\4') + extension(44, vector('H', b'cookie'))
    body = head + vector('H', extensions)
    known = [(T_HELLO, b'')] if server else [(T_HELLO, b''), (T_MESSAGE, b'\x08\0\0\2\0\0')]
    done = known + [(T_FINISHED, b'')]
    after = [(T_RECORD, b'\x17data'), (T_MESSAGE, b'\x18\0\0\1\0'), (T_MESSAGE, b'\x18\0\0\1\1'), (T_RECORD, b'\x17'),
             (T_MESSAGE, b'\4\0\0\6abc'), (T_MESSAGE, b'def'), (T_RECORD, b'\x15\1\0')]
    yield tls_script(0, *done, *after)
    yield tls_script(1, *done, *after)
    yield tls_script(7, *done, (T_RAW, b'\x17\3\3\0\x11' + bytes(17)))
    yield tls_script(0, *done, (T_LONG, b'd' * 255), (T_LONG | 0x80, b'\x18\0\0\1\0'))
    yield tls_script(0, *known, (T_MESSAGE, b'\x14\0\0\x20' + bytes(32)))
    yield tls_script(0, *known, (T_RAW, b'\x14\3\3\0\1\1'), (T_RAW, b'\x15\3\3\0\2\2\x28'))
    yield tls_script(0, (T_PLAIN, b'\1\0\0\1a'))
    for share in (key, b'', b'\0\x17' + vector('H', b'abc') + key):
        yield tls_script(3, (T_BINDER, tls_hello(share, b'alice')), (T_BINDER, tls_hello(key, b'alice')), (T_FINISHED, b''))
    yield tls_script(0, (T_BINDER, tls_hello(key, b'bob', b'alice')), (T_FINISHED, b''))
    yield tls_script(0, (T_PLAIN, b'\2' + be('I', len(body))[1:] + body), *done)
    yield tls_script(0, *known[:1], (T_MESSAGE, b'\x08\0\0\x0c\0\x0a' + extension(10, b'\0\4\0\x17\0\x1d')), (T_FINISHED, b''))


def databases():
    target = b'"mode":"target","image_path":"/srv/disk"'
    proxy = (b'"mode":"proxy","image_path":"/c","bitmap_path":"/b","control_socket_path":"/s","remote_host":"192.0.2.1","remote_port":"8520",'
             b'"remote_export_name":')
    yield b'{"version": 2, "images": {}}'
    yield b'{\n "version": 2,\n "images": {\n  "a": {\n   "mode": "target",\n   "image_path": "/a"\n  }\n }\n}\n'
    yield b'{"images":{"a":{' + target + b'},"b":{' + proxy + b'null},"c":{' + proxy + b'"x/y"}},"version":2}'
    yield b'{"version":2,"images":{"p":{' + proxy + b'null,"xnbdbox_uri":"nbds://u@h:1/e?tls-psk-file=/k","xnbdbox_words":"hold=5 verify"}}}'
    yield b'{"version":2,"images":{"\\u20ac\\ud83d\\ude00\\n\\t\\"\\\\\\/\\b\\f\\r":{' + target + b',"z":[1,-2.5e+3,true,false,null,{"k":"v"},[]]}}}'
    yield '{"version":2,"images":{"é€😀":{'.encode() + target + b'}}}'
    for bad in (b'\\ud800', b'\\u0000', b'\\x', b'\x80', b'\n', b'\0'):
        yield b'{"version":2,"images":{"' + bad + b'":{' + target + b'}}}'
    yield b'{"a":' + b'[' * 20 + b']' * 20 + b'}'
    yield b'{"version":2,"version":2}'
    yield b'{"version":02,"images":[]}'


def main():
    kinds = {
        'database': databases(),
        'session': sessions(),
        'control': controls(),
        'origin': origins(),
        'bgctl': replies(),
        'files': start_files(),
        'handover': states(),
        'server_handshake': server_handshakes(),
        'client_handshake': (bytes([export, piece]) + h for h in handshakes() for export in (0, 1, 2) for piece in (0, 1, 30)),
        'tls_server': tls_seeds(True),
        'tls_client': tls_seeds(False),
    }
    for kind, seeds in kinds.items():
        os.makedirs(os.path.join(sys.argv[1], kind), exist_ok=True)
        for i, seed in enumerate(seeds):
            with open(os.path.join(sys.argv[1], kind, '%03d' % i), 'wb') as f:
                f.write(seed)


main()
