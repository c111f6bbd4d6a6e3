"""How many connections of devices are open at once. TLS handshakes count, and one address may not take them all."""


class ConnectionLimits:
    """At most `most` connections, handshakes in progress included; of these one address may have half in a handshake.

    So one host that begins handshakes and never ends them keeps nobody else out. Connections past their handshake are
    not counted by address: behind a proxy or NAT a whole fleet has one.
    """

    def __init__(self, most: int) -> None:
        self.open = 0
        self._most = most
        self._most_greeting = max(1, most // 2)
        self._greeting: dict[str, int] = {}

    def enter(self, address: str, handshake: bool) -> bool:
        """Whether a connection may be served. If so, `leave` must follow, and `greeted` before it if `handshake`."""
        greeting = self._greeting.get(address, 0)
        if self.open >= self._most or (handshake and greeting >= self._most_greeting):
            return False
        self.open += 1
        if handshake:
            self._greeting[address] = greeting + 1
        return True

    def greeted(self, address: str) -> None:
        """The handshake of a connection from there has ended, well or not."""
        left = self._greeting[address] - 1
        if left:
            self._greeting[address] = left
        else:
            del self._greeting[address]

    def leave(self) -> None:
        self.open -= 1
