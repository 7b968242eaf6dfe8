"""GPT-2's alphabet: each byte as one printable character, so that tokens can be written into text files."""

from functools import cache


@cache
def byte_characters() -> dict[int, str]:
    """Give each byte the printable character by which GPT-2's files write it, in the order of GPT-2's ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


@cache
def _character_bytes() -> dict[str, int]:
    return {character: byte for byte, character in byte_characters().items()}


def to_characters(token: bytes) -> str:
    """Write bytes in the alphabet.

    Example:
        >>> to_characters(" né".encode())
        'ĠnÃ©'
    """
    return "".join(byte_characters()[byte] for byte in token)


def to_bytes(token: str) -> bytes:
    """Read bytes from the alphabet; a token that is not written in it stands for its own text."""
    try:
        return bytes(_character_bytes()[character] for character in token)
    except KeyError:
        return token.encode()
