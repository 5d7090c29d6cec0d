"""The packages of `make package`, tried as a user without a compiler would: in a root that holds
the C library and nothing else.

usage: package_in_empty_root.py CPACK BUILD_FOLDER WRITE_MODELS
WRITE_MODELS FOLDER writes the tiny model FOLDER/original. Exits with 77 where no root of one's own
can be had.
"""

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

C_LIBRARY = ["ld-linux*.so.*", "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1",
             "libpthread.so.0"]
SYSTEM = Path("/lib") / f"{platform.machine()}-linux-gnu"
# The root's /proc is this machine's: programs find their libraries by it.
IN_ROOT = 'mount --bind /proc "$0/proc" && exec chroot "$0" "$@"'


def run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def make_root(root: Path) -> None:
    for folder in ("proc", "tmp", "lib64"):
        (root / folder).mkdir(parents=True)
    libraries = root / SYSTEM.relative_to("/")
    libraries.mkdir(parents=True)
    for pattern in C_LIBRARY:
        for file in SYSTEM.glob(pattern):
            shutil.copy(file, libraries)
    for loader in Path("/lib64").glob("ld-linux*"):
        shutil.copy(loader, root / "lib64")


def try_program(root: Path, program: str) -> None:
    def schmidt(*args: str) -> str:
        return run("unshare", "--mount", "--propagation", "private", "sh", "-c", IN_ROOT,
                   str(root), program, *args)

    assert schmidt("--version").startswith("schmidt ")
    assert json.loads(schmidt("doctor", "--json"))["processor"]["name"]
    schmidt("compress", "/tmp/original", "--keep", "0.8", "--method", "tt-svd", "--shape",
            "low-rank", "-o", "/tmp/small")
    kept = json.loads(schmidt("inspect", "/tmp/small", "--json"))
    assert kept["parameters"] < kept["dense_parameters"]
    schmidt("generate", "/tmp/small", "--prompt", "Once", "-n", "4", "--temperature", "0")
    shutil.rmtree(root / "tmp/small")


def main() -> None:
    cpack, build, write_models = sys.argv[1:]
    alone = subprocess.run(["unshare", "--mount", "--propagation", "private", "chroot", "/", "true"],
                           capture_output=True)
    if alone.returncode or not shutil.which("dpkg-deb"):
        print("skipped: needs the right to mount and chroot, and dpkg-deb")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(cpack, "--config", f"{build}/CPackConfig.cmake", "-B", str(place / "packages"))
        archive, = (place / "packages").glob("*.tar.gz")
        package, = (place / "packages").glob("*.deb")
        unpacked, installed = place / "unpacked", place / "installed"
        for root in (unpacked, installed):
            make_root(root)
            run(write_models, str(root / "tmp"))
        shutil.unpack_archive(archive, unpacked)
        run("dpkg-deb", "-x", str(package), str(installed))
        # Where it was built is nobody's business.
        source = Path(__file__).resolve().parents[2]
        assert str(source).encode() not in (installed / "usr/bin/schmidt").read_bytes()
        try_program(unpacked, f"/{archive.name.removesuffix('.tar.gz')}/bin/schmidt")
        try_program(installed, "/usr/bin/schmidt")
        print(f"{archive.name} {archive.stat().st_size / 1e6:.0f} MB, "
              f"{package.name} {package.stat().st_size / 1e6:.0f} MB: both run")


if __name__ == "__main__":
    main()
