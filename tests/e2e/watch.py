# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# watch.py ROWS COLUMNS SECONDS COMMAND...: runs it on a terminal of this size, ends it by Ctrl-C after two pictures, or so
# many seconds, and prints what the screen shows then: a screen that knows what the command may use: text, CR, LF, and
# "home", "clear the rest of the row, or of all".
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

rows, columns, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
pid, fd = pty.fork()
if not pid:
    time.sleep(0.3)
    signal.signal(signal.SIGINT, signal.SIG_DFL) # whoever began the tests may ignore it
    os.execvp(sys.argv[4], sys.argv[4:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
end, data = time.time() + seconds, b""
while time.time() < end:
    if select.select([fd], [], [], 0.3)[0]:
        try:
            data += os.read(fd, 65536)
        except OSError:
            break
    elif data.count(b"\x1b[H") >= 2:  # and nothing more comes
        break
os.write(fd, b"\x03")
try:
    while os.read(fd, 65536):
        pass
except OSError:
    pass
status = os.waitpid(pid, 0)[1]

screen = [[" "] * columns for _ in range(rows)]
y = x = homes = 0
for token in re.findall(rb"\x1b\[[HJK]|[^\x1b]", data, re.S):
    if token == b"\x1b[H":
        y = x = 0
        homes += 1
    elif token == b"\x1b[K":
        screen[y][x:] = [" "] * (columns - x)
    elif token == b"\x1b[J":
        screen[y][x:] = [" "] * (columns - x)
        screen[y + 1:] = [[" "] * columns for _ in range(rows - y - 1)]
    elif token == b"\r":
        x = 0
    elif token == b"\n":
        y += 1
        if y == rows:
            sys.exit("it scrolls")
    else:
        if x == columns:
            sys.exit("a row is too long")
        screen[y][x] = token.decode()
        x += 1
for row in screen:
    print("".join(row).rstrip())
print("pictures", homes, "ended by", os.WTERMSIG(status) if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}")
