"""Installing, upgrading and removing Mien in whole Debian systems, by script and by package.

Each test starts with a system that has Debian's packages but `opencv-data`.
"""

import json
import re

import pytest

SCRIPT = "/mnt/kit/systemd/install.sh"
CASCADES = "apt-get update -qq && apt-get install -qq -y opencv-data >/dev/null"

PLACES = "/etc /opt /usr/local /usr/share/mien /usr/share/doc/mien /usr/lib/systemd/system /usr/lib/sysusers.d /var/lib"

ENVIRONMENT = ("/opt/mien/venv", "environment ")
"""What an installation always makes anew."""

FOLDERS = ("/usr/local/lib/", "/etc/systemd/system/multi-user.target.wants", "content gpio:", "content video:")
"""What may stay after a purge: folders that other things use too, and the cameras' groups."""

WORKS = r"""
mien --version
mien classify /mnt/checkout/edge/samples --format json >/tmp/classified.jsonl
mkdir -p /tmp/still
for n in 0 1 2 3 4 5 6 7 8 9; do cp /mnt/checkout/edge/samples/grace_hopper.jpg /tmp/still/$n.jpg; done
rm -f /tmp/events.jsonl
mien run --source images:/tmp/still --log /tmp/events.jsonl
# Where this environment has things from, and that the unit starts what is there.
cd / && /opt/mien/venv/bin/python -c 'import cv2, numpy; print(numpy.__file__, cv2.__file__)'
systemctl is-enabled mien.service
systemctl cat mien.service | sed -nE 's/^Exec[A-Za-z]*=-?([^ ]+).*/\1/p' | while read -r program; do
    test -x "$program"
done
id mien
"""


def assert_it_works(system, version="0.1.0"):
    said = system.run(WORKS).stdout
    assert f"mien {version}\n" in said
    libraries = re.search(r"(\S+numpy\S+) (\S+cv2\S+)", said)
    assert all(path.startswith("/usr/lib/python3/dist-packages/") for path in libraries.groups())
    assert "\nenabled\n" in said
    assert "video" in said.splitlines()[-1]
    pictures = [json.loads(line) for line in (system.changed / "tmp/classified.jsonl").read_text().splitlines()]
    faces = {picture["path"].rpartition("/")[2]: picture["faces"] for picture in pictures}
    assert [face["expression"] for face in faces["astronaut.png"]] == ["happy"]
    assert [face["expression"] for face in faces["grace_hopper.jpg"]] == ["neutral"]
    assert len(faces["solvay_conference.jpg"]) >= 5
    events = [json.loads(line) for line in (system.changed / "tmp/events.jsonl").read_text().splitlines()]
    assert events[0]["type"] == "appeared"
    assert events[0]["expression"] == "neutral"


def test_the_script_fetches_all_that_is_missing(system):
    said = system.run("/mnt/checkout/systemd/install.sh").stdout
    assert "installing Debian's opencv-data" in said
    assert_it_works(system)


def test_the_script_installs_without_a_network_and_upgrades_downgrades_uninstalls_and_purges(system):
    system.run(CASCADES)
    before = system.tree(*PLACES.split())
    system.run(SCRIPT, network=False)
    assert_it_works(system)

    system.run("sed -i 's/^spec = .*/spec = \"synthetic\"/' /etc/mien/mien.toml; echo kept >/var/lib/mien.keep")
    configuration = (system.changed / "etc/mien/mien.toml").read_bytes()
    system.run("/mnt/new/systemd/install.sh", network=False)
    assert_it_works(system, "99.0.0")
    system.run("/mnt/old/systemd/install.sh", network=False)
    assert_it_works(system, "0.0.1")
    once = system.tree(*PLACES.split())
    system.run("/mnt/old/systemd/install.sh", network=False)
    again = system.tree(*PLACES.split())
    assert [path for path, _ in once.items() ^ again.items() if not path.startswith(ENVIRONMENT)] == []
    assert system.run("ls /opt/mien/venvs | wc -l").stdout == "1\n"
    assert (system.changed / "etc/mien/mien.toml").read_bytes() == configuration

    system.run("mkdir -p /var/lib/mien && echo event >/var/lib/mien/outbox && /opt/mien/install.sh uninstall")
    assert (system.changed / "etc/mien/mien.toml").read_bytes() == configuration
    assert (system.changed / "var/lib/mien/outbox").exists()
    system.run("! command -v mien && test ! -e /opt/mien && ! systemctl cat mien.service 2>/dev/null")

    system.run(f"{SCRIPT} purge; rm /var/lib/mien.keep")
    after = system.tree(*PLACES.split())
    assert [path for path in after.keys() - before.keys() if not path.startswith(FOLDERS)] == []
    assert system.run("getent passwd mien || getent group mien || true").stdout == ""


def test_the_package_fetches_all_that_is_missing_and_upgrades_downgrades_and_goes(system):
    apt = "apt-get -o Dpkg::Use-Pty=0 -qq -y --no-install-recommends"
    deb = f"/mnt/%s/mien_%s_{system.architecture}.deb"
    system.run(f"apt-get update -qq && {apt} install {deb % ('kit', '0.1.0')}")
    assert_it_works(system)

    system.run("sed -i 's/^spec = .*/spec = \"synthetic\"/' /etc/mien/mien.toml")
    configuration = (system.changed / "etc/mien/mien.toml").read_bytes()
    system.run(f"{apt} install {deb % ('new', '99.0.0')}", network=False)
    assert_it_works(system, "99.0.0")
    system.run(f"{apt} install --allow-downgrades {deb % ('old', '0.0.1')}", network=False)
    assert_it_works(system, "0.0.1")
    assert (system.changed / "etc/mien/mien.toml").read_bytes() == configuration
    refused = system.run(SCRIPT, network=False, fails=True)
    assert "installed as a Debian package" in refused.stderr

    system.run(f"mkdir -p /var/lib/mien && echo event >/var/lib/mien/outbox && {apt} remove mien")
    assert (system.changed / "etc/mien/mien.toml").read_bytes() == configuration
    assert (system.changed / "var/lib/mien/outbox").exists()
    system.run("! command -v mien && test ! -e /opt/mien")

    system.run(f"{apt} purge mien")
    assert (
        system.run("ls -d /etc/mien /var/lib/mien /opt/mien /usr/share/mien || getent passwd mien || true").stdout == ""
    )


@pytest.mark.parametrize("kind", ["trixie-amd64", "trixie-arm64"])
def test_the_package_renews_its_environment_when_another_python_comes(system):
    system.run(f"{CASCADES}; dpkg -i /mnt/kit/mien_0.1.0_{system.architecture}.deb")
    # What an environment of Bookworm's looks like on Trixie.
    gone = "environment=$(readlink -f /opt/mien/venv); rm $environment/bin/python*; ! mien --version"
    system.run(f"{gone}; dpkg-trigger --by-package=python3-minimal /usr/bin/python3; dpkg --configure --pending")
    assert_it_works(system)
    one = system.run("ls /opt/mien/venvs").stdout
    system.run("dpkg-trigger --by-package=python3-minimal /usr/bin/python3; dpkg --configure --pending")
    assert system.run("ls /opt/mien/venvs").stdout == one


def test_the_package_takes_over_from_the_script(system):
    system.run(f"{CASCADES}; {SCRIPT}")
    system.run(f"dpkg -i /mnt/new/mien_99.0.0_{system.architecture}.deb", network=False)
    assert_it_works(system, "99.0.0")
    system.run("test ! -e /usr/local/lib/systemd/system/mien.service && test ! -e /usr/local/bin/mien")


@pytest.mark.parametrize("kind", ["bookworm-amd64", "bookworm-arm64"])
def test_bookworm_may_have_the_smaller_interpreter_which_an_upgrade_keeps(system):
    system.run(f"{CASCADES}; {SCRIPT} --interpreter tflite-runtime")
    assert_it_works(system)
    system.run("/mnt/new/systemd/install.sh", network=False)
    assert_it_works(system, "99.0.0")
    listed = system.run("ls /opt/mien/venv/lib/python3.11/site-packages").stdout.split()
    assert "tflite_runtime" in listed
    assert "ai_edge_litert" not in listed


@pytest.mark.parametrize("kind", ["trixie-amd64", "trixie-arm64"])
def test_the_environment_sees_debians_libcamera(system):
    system.run(f"{CASCADES}; {SCRIPT}")
    system.run("cd / && /opt/mien/venv/bin/python -c 'import libcamera; libcamera.CameraManager'")
