"""Take each guard away once, and see its test fail.

usage: python tests/security/guards.py [WORD ...]     only proofs whose test or row contains one of the words

The source is copied; in the copy one guard is replaced; the test runs on the copy, and so do daemons and their helpers:
they are started by an interpreter of its own that finds the copy first. It must fail, not just be unable to begin, and
it must pass on the copy as it was: a machine that lacks what the test needs would prove every guard.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from security.rows import SOURCE, TESTS, Proof, proofs


def falls(proof: Proof) -> str:
    """Run one test with its guard and without; "" when it passed and failed as it should, else what is wrong."""
    with tempfile.TemporaryDirectory(prefix="fl-guards-") as folder:
        copy = Path(folder) / "fairlead"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        place = copy / proof.guard.file
        text = place.read_text()
        if text.count(proof.guard.text) != 1:
            return f"its guard is {text.count(proof.guard.text)} times in {proof.guard.file}"
        python = interpreter(Path(folder))
        whole = _tried(python, proof)
        if whole.returncode:
            return f"it does not pass with its guard either:\n{whole.stdout[-2000:]}"
        place.write_text(text.replace(proof.guard.text, proof.guard.instead))
        done = _tried(python, proof)
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        if done.returncode == 1 and failed:
            return ""
        return f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}"


def _tried(python: str, proof: Proof) -> subprocess.CompletedProcess[str]:
    words = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=short", proof.node]
    return subprocess.run(words, cwd=TESTS.parent, capture_output=True, text=True, timeout=300)


def interpreter(folder: Path) -> str:
    """A Python whose packages are the copy in ``folder``, then everything that this one has."""
    home = folder / "python"
    packages = home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "copy.pth").write_text(
        "\n".join([str(folder), *(path for path in sys.path if path.endswith("-packages"))]) + "\n"
    )
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (home / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    return str(home / "bin" / "python")


def main(words: list[str]) -> int:
    bad = 0
    for proof in proofs():
        if words and not any(word in part for word in words for part in (proof.node, *proof.rows)):
            continue
        begun = time.monotonic()
        wrong = falls(proof)
        bad += bool(wrong)
        told = f"does NOT fail without its guard: {wrong}" if wrong else "fails without its guard"
        print(f"{proof.node.split('::')[1]} {told} ({time.monotonic() - begun:.1f} s)", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
