# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""Files that are no database: each is refused in one line, which says what and where, and stays as it is."""
import subprocess

TARGET = b'"mode":"target","image_path":"/x"'
PROXY = b'"mode":"proxy","image_path":"/x","bitmap_path":"/b","control_socket_path":"/c","remote_host":"h"'


def image(text, name=b'n'):
    return b'{"version":2,"images":{"' + name + b'":{' + text + b'}}}'


def levels(n, begin=b'[', end=b']'):
    return b'{"a":' + begin * n + end * n + b',"version":2,"images":{}}'


EARLY = 'the text ends too early'
MANY = b'{"version":2,"images":{' + b','.join(b'"%d":{%s}' % (i, TARGET) for i in range(10001)) + b'}}'
HALF = 'half of a surrogate pair'
LACKS = 'a proxy lacks one of image_path, bitmap_path, control_socket_path, remote_host and remote_port'
ROWS = [
    # text, line, byte, what
    (b'x', 1, 0, 'a JSON object is wanted here'),
    (b' ', 1, 1, EARLY),
    (b'\xef\xbb\xbf{}', 1, 0, 'a JSON object is wanted here'),
    (b'[]', 1, 0, 'a JSON object is wanted here'),
    (b'\0' * 512, 1, 0, 'a JSON object is wanted here'),
    (b'{"version":2', 1, 12, EARLY),
    (b'{"version":2}', 1, 13, 'there are no images'),
    (b'{"images":{}}', 1, 13, 'there is no version'),
    (b'{"version":1,"images":{}}', 1, 11, 'the version is not 2'),
    (b'{"version":3,"images":{}}', 1, 11, 'the version is not 2'),
    (b'{"version":-2,"images":{}}', 1, 11, 'the version is not 2'),
    (b'{"version":2.0,"images":{}}', 1, 11, 'the version is not 2'),
    (b'{"version":2e0,"images":{}}', 1, 11, 'the version is not 2'),
    (b'{"version":18446744073709551618,"images":{}}', 1, 11, 'the version is not 2'),
    (b'{"version":"2","images":{}}', 1, 11, 'the version is not a number'),
    (b'{"version":2,"version":2,"images":{}}', 1, 13, 'a key is there twice'),
    (b'{"version":2,"images":{},"images":{}}', 1, 25, 'a key is there twice'),
    (b'{"version":2,"images":[]}', 1, 22, 'a JSON object is wanted here'),
    (b'{"version":2,"images":null}', 1, 22, 'a JSON object is wanted here'),
    (b'{"version":2,"images":{}}\n}', 2, 26, 'something follows the end of the object'),
    (b'{"version":2,"images":{}}\0', 1, 25, 'something follows the end of the object'),
    (b'{"version":2,"images":{},}', 1, 25, 'a string is wanted here'),
    (b'{\r\n "a":01}', 2, 8, 'a number begins with 0'),
    (b'{"a":1e}', 1, 7, 'a number lacks a digit'),
    (b'{"a":1.}', 1, 7, 'a number lacks a digit'),
    (b'{"a":-}', 1, 6, 'a number lacks a digit'),
    (b'{"a":.5}', 1, 5, 'a value is wanted here'),
    (b'{"a":nul}', 1, 5, 'a value is wanted here'),
    (b'{"a":NaN}', 1, 5, 'a value is wanted here'),
    (b'{"a":\n\n"\x80"}', 3, 8, 'no UTF-8'),
    (b'{"a":"\xed\xa0\x80"}', 1, 6, 'no UTF-8'),
    (b'{"a":"\xc0\x80"}', 1, 6, 'no UTF-8'),
    (b'{"a":"\xf4\x90\x80\x80"}', 1, 6, 'no UTF-8'),
    (b'{"a":"\xe2\x82', 1, 6, 'no UTF-8'),
    (b'{"a":"\\x"}', 1, 7, 'no such escape'),
    (b'{"a":"\\', 1, 7, 'no such escape'),
    (b'{"a":"\\u12"}', 1, 10, '\\u needs four hexadecimal digits'),
    (b'{"a":"\\u0000"}', 1, 6, 'a string has a zero byte'),
    (b'{"a":"\\ud800"}', 1, 6, HALF),
    (b'{"a":"\\udc00"}', 1, 6, HALF),
    (b'{"a":"\\ud800\\u0041"}', 1, 6, HALF),
    (b'{"a":"\n"}', 1, 6, 'a string has a control character'),
    (b'{"a":"\0"}', 1, 6, 'a string has a control character'),
    (b'{"a" 1}', 1, 5, 'a colon is wanted here'),
    (b'{a:1}', 1, 1, 'a string is wanted here'),
    (b'{"a":[1 2]}', 1, 8, 'a comma or the end of this level is wanted here'),
    (b'{"a":[1,]}', 1, 8, 'a value is wanted here'),
    (b'{"a":[}', 1, 6, 'a value is wanted here'),
    (b'{"a":"', 1, 6, EARLY),
    (levels(15), 1, 19, 'too many levels'),
    (levels(1000000), 1, 19, 'too many levels'),
    (levels(1000000, b'{"a":', b'}'), 1, 75, 'too many levels'),
    (image(b''), 1, 28, 'an image has no mode'),
    (image(b'"mode":"target"'), 1, 43, 'a target has no image_path'),
    (image(b'"mode":"target","image_path":""'), 1, 59, 'a target has no image_path'),
    (image(b'"mode":"target","image_path":"/%s"' % (b'x' * 4095)), 1, 4155, 'an image_path has more than 4095 bytes'),
    (image(b'"mode":"cow","image_path":"/x"'), 1, 58, 'the mode of an image is neither target nor proxy'),
    (image(b'"mode":null'), 1, 35, 'a string is wanted here'),
    (image(b'"mode":"target","image_path":1'), 1, 57, 'a string is wanted here'),
    (image(TARGET + b',"mode":"target"'), 1, 62, 'an image has a key twice'),
    (image(TARGET + b'},"n":{' + TARGET), 1, 63, 'two images have the same name'),
    (image(TARGET + b'},"\\u006e":{' + TARGET), 1, 63, 'two images have the same name'),
    (b'{"version":2,"images":{"n":7}}', 1, 27, 'a JSON object is wanted here'),
    (image(PROXY), 1, 124, LACKS),
    (image(PROXY + b',"remote_port":""'), 1, 141, LACKS),
    (image(PROXY + b',"remote_port":8520'), 1, 139, 'a string is wanted here'),
    (image(PROXY + b',"remote_port":"1","remote_export_name":{}'), 1, 164, 'a string is wanted here'),
    (image(TARGET, b'n' * 4097), 1, 23, 'the name of an image has more than 4096 bytes'),
    (MANY, 1, MANY.index(b'"10000"'), 'more than 10000 images'),
]

for text, line, at, what in ROWS:
    with open('bad', 'wb') as f:
        f.write(text)
    p = subprocess.run(['xnbd-wrapper', '--dbpath', 'bad', '--lport', '0', '--unix', 'bad.sock'], capture_output=True, timeout=60, check=False)
    out = p.stderr.decode()
    with open('bad', 'rb') as f:
        same = f.read() == text
    if p.returncode != 1 or not same or not out.endswith("/bad', line %d, byte %d: %s\n" % (line, at, what)) or out.count('\n') != 1:
        print(text[:100], p.returncode, same, out, line, at, what)
print(len(ROWS) >= 60)
