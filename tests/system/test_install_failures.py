"""What goes wrong while installing leaves the system as it was, and the message says what to do.

All in one kind of system: what is tried here is the script, and it is the same on all of them.
"""

import pytest

SCRIPT = "/mnt/kit/systemd/install.sh"
NEW = "/mnt/new/systemd/install.sh"
CASCADES = "apt-get update -qq && apt-get install -qq -y opencv-data >/dev/null"
PLACES = ("/etc", "/opt", "/usr/local", "/usr/share/doc/mien", "/var/lib/mien")

pytestmark = pytest.mark.parametrize("kind", ["bookworm-amd64"])


def fake(name, body):
    """A program of this name that stands before the real one."""
    folder = "/run/fake"
    return (
        f"mkdir -p {folder}\nprintf '#!/bin/bash\\n%s\\n' '{body}' >{folder}/{name}\n"
        f"chmod +x {folder}/{name}\nPATH={folder}:$PATH\n"
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (fake("dpkg", "echo armhf"), "32-bit (armhf)"),
        (fake("dpkg", "echo riscv64"), "no wheels for this processor (riscv64)"),
        ("sed -i 's/=bookworm/=bullseye/' /etc/os-release\n", "(debian, bullseye)"),
        ("sed -i 's/^ID=.*/ID=ubuntu/; s/=bookworm/=noble/' /etc/os-release\n", "(ubuntu, noble)"),
        ("rm /etc/os-release /usr/lib/os-release\n", "an unknown system"),
    ],
)
def test_an_unknown_system_is_refused_before_anything_is_done(system, change, why):
    said = system.run(
        f"{change}{SCRIPT} || {{ ls -d /opt/mien /etc/mien /run/lock/mien-install.lock; exit 3; }}", fails=True
    )
    assert why in said.stderr
    assert "Nothing was changed" in said.stderr
    assert said.stdout == ""


def test_an_ordinary_user_is_told_to_use_sudo(system):
    said = system.run(f"setpriv --reuid 1000 --clear-groups {SCRIPT} --no-start", fails=True)
    assert f"sudo {SCRIPT} --no-start" in said.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--wheels", "--wheels needs a value"),
        ("--wheels /nowhere", "no such folder"),
        ("--wheels /etc", "/etc holds no mien.txt"),
        ("--interpreter onnx", "expected ai-edge-litert or tflite-runtime"),
        ("--wait soon", "expected seconds"),
        ("instal", "what is instal?"),
    ],
)
def test_wrong_usage_is_refused(system, words, why):
    said = system.run(f"{SCRIPT} {words} || {{ test $? = 64 && exit 3; }}", fails=True)
    assert why in said.stderr


def test_without_a_network_the_missing_packages_are_named(system):
    before = system.tree(*PLACES)
    said = system.run(SCRIPT, network=False, fails=True)
    assert "opencv-data" in said.stderr
    assert "nothing was installed" in said.stderr
    assert system.tree(*PLACES) == before


def test_another_archive_that_is_broken_is_no_hindrance(system):
    system.run("echo 'deb http://deb.debian.org/nowhere bookworm main' >/etc/apt/sources.list.d/other.list")
    said = system.run(f"{SCRIPT} && mien --version")
    assert "deb.debian.org/nowhere" in said.stderr
    assert said.stdout.endswith("mien 0.1.0\n")


def test_without_a_network_or_wheels_nothing_is_installed(system):
    system.run(CASCADES)
    before = system.tree(*PLACES)
    said = system.run("/mnt/checkout/systemd/install.sh", network=False, fails=True)
    assert "cannot be had" in said.stderr
    assert system.tree(*PLACES) == before


def test_a_locked_apt_is_waited_for_and_named_in_the_end(system):
    # dpkg's locks are of the kind that python's lockf takes.
    hold = """
python3 - <<'PYTHON' &
import fcntl, time
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
time.sleep(40)
PYTHON
sleep 1
"""
    said = system.run(f"apt-get update -qq\n{hold}{SCRIPT} --wait 1", fails=True)
    assert "another program is using apt" in said.stdout
    assert "apt's lock for 1 s" in said.stderr
    system.run(f"{hold}{SCRIPT}")
    system.run("mien --version")


def test_a_wheel_of_another_hash_is_refused(system):
    system.run(f"{CASCADES}; cp -r /mnt/kit /srv/kit; echo >>/srv/kit/wheels/paho_mqtt-2.2.0-py3-none-any.whl")
    before = system.tree(*PLACES)
    said = system.run("/srv/kit/systemd/install.sh", fails=True)
    assert "DO NOT MATCH THE HASHES" in said.stderr
    assert system.tree(*PLACES) == before


@pytest.mark.parametrize("installed", [False, True])
@pytest.mark.parametrize("size", ["100M", "260M"])
def test_a_full_disk_is_noticed_before_or_on_the_way(system, installed, size):
    # 260 MB are said to be enough; then the disk fills up while the environment is made.
    system.run(f"{CASCADES}; {f'{SCRIPT};' if installed else ''} rm -rf /tmp/opt; cp -a /opt /tmp/opt")
    script = f"""
mount -t tmpfs -o size={size} tmpfs /opt && cp -a /tmp/opt/. /opt
{fake("df", "echo Avail; echo 9999")}
find /opt -path '*/site-packages' -prune -o -print | sort >/tmp/before
head -c $(({size[:-1]} - 60 - $(du -sm /opt | cut -f 1)))M /dev/zero >/opt/filler || true
{"PATH=${PATH#/run/fake:}" if size == "100M" else ""}
if {NEW}; then exit 0; fi
rm /opt/filler
find /opt -path '*/site-packages' -prune -o -print | sort >/tmp/after
cmp /tmp/before /tmp/after && {"mien --version && " if installed else ""}exit 3
"""
    said = system.run(script, fails=True)
    assert ("are needed" if size == "100M" else "the disk is full") in said.stderr
    assert said.stdout.endswith("mien 0.1.0\n" if installed else "beside what is there\n") or not installed


def test_a_disk_of_no_use_is_named(system):
    system.run(CASCADES)
    for mount, why in (
        ("mkdir /etc/mien && mount -t tmpfs -o ro tmpfs /etc/mien", "read-only"),
        (f"{fake('df', 'echo Avail; echo 9999')} mount -t tmpfs -o size=8M tmpfs /opt", "the disk is full"),
    ):
        said = system.run(f"{mount}; {SCRIPT} || {{ test $? = 73 && exit 3; }}", fails=True)
        assert why in said.stderr
        assert "nothing was installed" in said.stderr
    system.run('test -z "$(ls -A /opt)" && ! command -v mien')


def test_opt_may_be_a_link_to_another_disk(system):
    system.run(f"{CASCADES}; mkdir /srv/ssd; rmdir /opt; ln -s /srv/ssd /opt; {SCRIPT}; {NEW}")
    assert system.run("mien --version; ls /srv/ssd/mien/venvs | wc -l").stdout == "mien 99.0.0\n1\n"


def test_nothing_is_expected_of_the_environment_that_it_is_called_in(system):
    bare = "umask 077; rmdir /run/lock; export PATH=/usr/local/bin:/usr/bin:/bin CDPATH=. TMPDIR=/nowhere"
    # What Python would import in place of its own.
    own = "mkdir '/srv/a folder'; cp -r /mnt/kit '/srv/a folder/kit'; cd '/srv/a folder/kit'; echo 1/0 >logging.py"
    system.run(
        f"{CASCADES}; {bare}; {own}; systemd/install.sh --wait 08; setpriv --reuid 1000 --clear-groups mien --version"
    )
    system.run(f"{bare}; {SCRIPT} purge; ! getent passwd mien && ! getent group mien")


def test_the_copy_that_removes_mien_says_that_it_has_nothing_to_install(system):
    said = system.run(f"{CASCADES}; {SCRIPT}; /opt/mien/install.sh || {{ test $? = 64 && exit 3; }}", fails=True)
    assert "/opt/mien holds no version to install" in said.stderr


def test_a_purge_leaves_what_is_somebody_elses(system):
    person = "useradd --create-home mien; mkdir -p /var/lib/mien"
    said = system.run(f"{CASCADES}; {person}; {SCRIPT}; {SCRIPT} purge")
    assert "an account mien of somebody's" in said.stdout
    assert system.run("id --user --name mien; ls -d /var/lib/mien || true").stdout == "mien\n"

    system.run("userdel --remove mien; groupadd --gid 1234 mien; useradd --groups mien visitor")
    system.run(f"{SCRIPT}; {SCRIPT} purge; ! getent passwd mien")
    assert system.run("getent group mien").stdout == "mien:x:1234:visitor\n"


def test_purging_the_package_leaves_the_account_of_an_installation_by_script(system):
    system.run(
        f"{CASCADES}; dpkg -i /mnt/kit/mien_0.1.0_amd64.deb; dpkg --remove mien; {SCRIPT}; mkdir -p /var/lib/mien"
    )
    system.run("dpkg --purge mien; id mien; ls -d /var/lib/mien; mien --version")


def test_what_a_run_that_was_cut_off_left_is_cleared_away_and_put_back(system):
    system.run(f"{CASCADES}; {SCRIPT}")
    before = system.tree(*PLACES)
    # Killed where it has put the new files in place but not yet the new environment.
    stop = fake("systemd-sysusers", "kill -9 $PPID")
    system.run(f"echo other >>/usr/share/doc/mien/README.md; {stop}{NEW} || true", fails=False)
    between = system.tree(*PLACES)
    assert between != before
    said = system.run("/mnt/checkout/systemd/install.sh", network=False, fails=True)
    assert "nothing changed" in said.stderr
    after = system.tree(*PLACES)
    assert after.pop("/usr/share/doc/mien/README.md") != before.pop("/usr/share/doc/mien/README.md")
    assert after == before
    system.run(f"{NEW} && mien --version", network=False)


def test_two_installations_at_once_do_not_meet(system):
    system.run(CASCADES)
    said = system.run(f"exec 8>/run/lock/mien-install.lock; flock 8; {SCRIPT}", fails=True)
    assert "another installation" in said.stderr


def test_a_configuration_that_the_new_version_refuses_keeps_the_old_one_running(system):
    system.run(f"{CASCADES}; {SCRIPT}; printf '[camera]\\nfps = 3\\n' >>/etc/mien/mien.toml")
    before = system.tree(*PLACES)
    said = system.run(f"{NEW} || {{ test $? = 78 && exit 3; }}", fails=True)
    assert "/etc/mien/mien.toml, line " in said.stderr
    assert system.tree(*PLACES) == before
    refused = system.run("dpkg --force-confold -i /mnt/new/mien_99.0.0_amd64.deb", fails=True)
    assert "sudo dpkg --configure -a" in refused.stderr
    assert system.run("/opt/mien/venv/bin/mien --version").stdout == "mien 0.1.0\n"
    system.run("sed -i '/camera/,$d' /etc/mien/mien.toml; dpkg --force-confold --configure -a")
    assert system.run("mien --version").stdout == "mien 99.0.0\n"


def test_a_numpy_that_stands_before_debians_is_named(system):
    system.run(f"{CASCADES}; cp -r /usr/lib/python3/dist-packages/numpy /usr/local/lib/python3.11/dist-packages")
    said = system.run(SCRIPT, fails=True)
    assert "numpy comes from /usr/local/lib/python3.11/dist-packages/numpy" in said.stderr
    system.run("! command -v mien && test ! -e /opt/mien")


# As much of systemd as the installer asks for: whether the service runs, and a new version's start that fails.
SYSTEMCTL = """
echo "$*" >>/tmp/systemctl.log
case $* in
    *"is-active"*) exit 0 ;;
    "restart mien.service") [ "$(/opt/mien/venv/bin/mien --version)" != "mien 99.0.0" ] ;;
esac
"""


def test_a_new_version_whose_service_does_not_start_is_taken_back(system):
    system.run(f"{CASCADES}; {SCRIPT}")
    before = system.tree(*PLACES)
    said = system.run(
        f"mkdir -p /run/systemd/system\n{fake('systemctl', SYSTEMCTL)}{NEW} || {{ test $? = 70 && exit 3; }}",
        fails=True,
    )
    assert "does not start" in said.stderr
    assert system.tree(*PLACES) == before
    asked = (system.changed / "tmp/systemctl.log").read_text(encoding="utf-8").splitlines()
    assert asked.count("restart mien.service") == 2


def test_the_service_is_started_once_and_restarted_by_an_upgrade_but_never_enabled_again(system):
    calm = 'echo "$*" >>/tmp/systemctl.log; [ "$1" != is-active ] || [ -e /tmp/runs ]'
    enter = f"mkdir -p /run/systemd/system\n{fake('systemctl', calm)}"
    system.run(f"{CASCADES}; {enter}{SCRIPT}; echo upgrade >>/tmp/systemctl.log; touch /tmp/runs; {NEW}")
    asked = (system.changed / "tmp/systemctl.log").read_text(encoding="utf-8").split("upgrade\n")
    assert "enable --quiet mien.service" in asked[0]
    assert "start --no-block mien.service" in asked[0]
    assert "restart mien.service" in asked[1]
    assert "enable" not in asked[1]


def test_a_service_that_still_waits_for_its_camera_is_restarted_and_not_waited_for(system):
    waits = 'echo "$*" >>/tmp/systemctl.log; case $* in is-active*) exit 3 ;; show*) echo activating ;; esac'
    system.run(f"{CASCADES}; {SCRIPT}; mkdir -p /run/systemd/system\n{fake('systemctl', waits)}{NEW}")
    asked = (system.changed / "tmp/systemctl.log").read_text(encoding="utf-8").splitlines()
    assert asked[-1] == "restart --no-block mien.service"
