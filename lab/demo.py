"""`python -m lab.demo`: FRR routers, xdprouter on the middle one, traffic, a cut link. Cleans up after itself.

    build -> BGP and OSPF converge -> TCP and UDP, IPv4 and IPv6 -> status -> cut a link -> traffic moves

Exit code 0 only if the traffic took the fast path, before and after the cut.
"""

import json
import subprocess
import sys
import time

from lab.errors import LabError
from lab.lab import Lab
from lab.topology import diagram, load
from lab.wait import wait_until

ROUTER, PORTS = "r2", ("east_a", "east_b")
TARGETS = {"IPv4": "10.2.0.2", "IPv6": "fd02::2"}
PREFIXES = {"IPv4": "10.2.0.0/24", "IPv6": "fd02::/64"}
CONVERGED_S = 60
SLOW_PATH_SHARE = 0.01
"""At most so much of the traffic may have been forwarded by the kernel: it resolves the neighbours."""


class Demo:
    def __init__(self, lab: Lab):
        self._lab = lab
        self._started = time.monotonic()

    def run(self) -> bool:
        self._say("the network")
        print(diagram(self._lab.topology))
        self._lab.up()
        self._say("up, with FRR on three routers and xdprouter on the middle one; waiting for BGP and OSPF")
        for version, prefix in PREFIXES.items():
            wait_until(lambda prefix=prefix: self._learned(prefix), CONVERGED_S, f"{ROUTER} to learn {prefix} by BGP")
            target = TARGETS[version]
            wait_until(lambda target=target: self._reaches(target), CONVERGED_S, f"h1 to reach {target}")
        self._say("converged: h1 reaches h2 over both families")
        good = self._traffic()
        self._say("xdprouter status")
        subprocess.run([*self._xdprouter("status")], check=True)

        before = self._egress()
        self._transfer(TARGETS["IPv4"], [])
        after = self._egress()
        busy, spare = sorted(PORTS, key=lambda port: after[port] - before[port], reverse=True)
        self._say(f"traffic leaves by {busy}; cutting it")
        self._lab.link_down(ROUTER, busy)
        for target in TARGETS.values():
            wait_until(lambda target=target: self._reaches(target), CONVERGED_S, f"h1 to reach {target} again")
        before = self._egress()
        good &= self._traffic()
        moved = self._egress()[spare] - before[spare]
        self._say(f"{moved} packets left by {spare} instead")
        subprocess.run([*self._xdprouter("status")], check=True)
        return good and moved > 0

    def _traffic(self) -> bool:
        """TCP and UDP over both families; whether the middle router forwarded nearly all of it in XDP."""
        good = True
        for version, target in TARGETS.items():
            for protocol, arguments in (("TCP", []), ("UDP", ["-u", "-b", "50M"])):
                in_xdp, by_kernel = self._forwarded_in_xdp(), self._forwarded_by_kernel()
                self._transfer(target, arguments)
                fast, slow = self._forwarded_in_xdp() - in_xdp, self._forwarded_by_kernel() - by_kernel
                took_fast_path = fast > 100 and slow <= max(10, SLOW_PATH_SHARE * fast)
                word = "fast path" if took_fast_path else "SLOW PATH"
                self._say(f"{protocol} over {version}: {fast} packets forwarded in XDP, {slow} by the kernel: {word}")
                good &= took_fast_path
        return good

    def _transfer(self, target: str, arguments: list[str]) -> None:
        """One iperf3 run from h1 to h2. Raises LabError if it fails."""
        with self._lab.popen("h2", ["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True) as server:
            try:
                wait_until(lambda: "listening" in server.stdout.readline(), 5, "iperf3 to listen")
                client = self._lab.exec("h1", ["iperf3", "-c", target, "-t", "1", *arguments])
                if client.returncode != 0:
                    raise LabError(f"iperf3 to {target}: {(client.stderr or client.stdout).strip()}")
                server.wait(timeout=10)
            finally:
                server.kill()

    def _xdprouter(self, command: str) -> list[str]:
        return [sys.executable, "-m", "xdprouter", command, "--netns", self._lab.ns(ROUTER)]

    def _ports(self) -> list[dict]:
        done = subprocess.run([*self._xdprouter("ports"), "--json"], capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(done.stderr.strip())
        return json.loads(done.stdout)["ports"]

    def _forwarded_in_xdp(self) -> int:
        return sum(port["ingress"].get("forward", {}).get("packets", 0) for port in self._ports())

    def _forwarded_by_kernel(self) -> int:
        """The kernel's own forwarding counters of both families (RFC 4293)."""
        shown = self._lab.exec(ROUTER, ["nstat", "-asz", "IpForwDatagrams", "Ip6OutForwDatagrams"]).stdout
        return sum(int(line.split()[1]) for line in shown.splitlines() if "ForwDatagrams" in line)

    def _egress(self) -> dict[str, int]:
        return {port["name"]: port["egress"]["packets"] for port in self._ports()}

    def _learned(self, prefix: str) -> bool:
        family = "-6" if ":" in prefix else "-4"
        return "bgp" in self._lab.exec(ROUTER, ["ip", family, "route", "show", prefix]).stdout

    def _reaches(self, target: str) -> bool:
        return self._lab.exec("h1", ["ping", "-c", "1", "-W", "1", target]).returncode == 0

    def _say(self, text: str) -> None:
        print(f"\n[{time.monotonic() - self._started:5.1f} s] {text}", flush=True)


def main() -> int:
    lab = Lab(load("frr_ospf_bgp"), name="demo")
    try:
        good = Demo(lab).run()
    except (LabError, subprocess.CalledProcessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        lab.down()
    print("\nThe traffic took the fast path." if good else "\nThe traffic did NOT take the fast path.", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
