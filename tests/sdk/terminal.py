"""A terminal for tests: a real pty on one side, what would be seen on the other."""

import os
import pty
import re
import termios
import threading

_CODE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])")


class Terminal:
    """``stream`` is what a program writes to; :meth:`seen` is the screen after that, :attr:`raw` every byte."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (rows, columns))
        self.stream = open(slave, "w", encoding="utf-8", newline=None)
        self.raw = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")()
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                data = b""
            with self._changed:
                self.raw += decoder.decode(data)
                self._changed.notify_all()
            if not data:
                return

    def wait_for(self, text: str, timeout: float = 30.0) -> None:
        """Until those bytes have been written."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.raw, timeout), (text, self.raw)

    def wait_seen(self, condition, timeout: float = 30.0) -> None:
        """Until the screen is so."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(screen(self.raw)), timeout), screen(self.raw)

    def type(self, keys: str) -> None:
        """As a person would, through the terminal's line discipline: ``\\x03`` is Ctrl-C."""
        os.write(self._master, keys.encode())

    @property
    def modes(self) -> list:
        """Echo, line editing and the like, as ``stty`` shows them."""
        return termios.tcgetattr(self._master)

    def close(self) -> list[str]:
        """The screen at the end."""
        if not self.stream.closed:
            self.stream.close()
            self._thread.join()
            os.close(self._master)
        return screen(self.raw)


def screen(raw: str) -> list[str]:
    """What a terminal without a lower end shows, without colours; no empty lines at the end."""
    lines, row, column, position = [""], 0, 0, 0
    while position < len(raw):
        code = _CODE.match(raw, position)
        if code is not None:
            position = code.end()
            if code[2] == "J":
                assert code[1] == "", "only what is below is ever erased"
                lines[row] = lines[row][:column]
                del lines[row + 1 :]
            elif code[2] == "A":
                row -= int(code[1])
                assert row >= 0
            else:
                assert code[2] in "hlm", code[0]
            continue
        character = raw[position]
        position += 1
        if character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        else:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + character + line[column + 1 :]
            column += 1
    while lines and not lines[-1].strip():
        lines.pop()
    return lines
