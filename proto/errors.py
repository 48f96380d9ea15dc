"""What a peer, or a file, can do to us. Every class says what to do about it."""


class ProtoError(ValueError):
    """Base: the input is not what the format says. Nothing was changed."""


class CueError(ProtoError):
    """Bytes are not a jam. `why` is gone, back, meme or size (spec 3.2); `text`
    says the same in more words, if there are any."""

    def __init__(self, why: str, bit: int | None = None) -> None:
        where = "" if bit is None else f" at bit {bit}"
        super().__init__(f"not a jam: {why}{where}")
        self.text = why
        self.why = why.split(":")[0]
        self.bit = bit


class FrameError(ProtoError):
    """The byte stream is not frames: the peer is broken, drop the connection."""


class CodecError(ProtoError):
    """A frame is not messages. `where` is a path such as `Done.effects[2].wire`."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where = where


class TextError(ProtoError):
    """Text is not a noun, ship, date or path."""
