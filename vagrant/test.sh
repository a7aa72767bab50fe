#!/bin/sh
# Show on the two machines of vagrant/Vagrantfile, which are up, that tproxy does there what it says. Prints a line for each
# claim, with the seconds it took, and stops at the first that does not hold.
# Usage: vagrant/test.sh [mesh] [netns] [pods]      (all three unless said otherwise)
#   mesh   tproxy by systemd on both: mutual TLS, policies, crash, reboot, uninstall. Ends with tproxy removed.
#   netns  the suite of tests/netns on a; NETNS="FILES" chooses. Emulated machines run a part of it, which is named.
#   pods   the suite of tests/pods on a
set -eu
cd "$(dirname "$0")/.."
mkdir -p build/vagrant
ssh_config=build/vagrant/ssh-config
URL=http://web.example:8080
MARK=words-that-only-the-two-applications-know

# on MACHINE COMMAND...
on() {
    machine=$1
    shift
    ssh -F $ssh_config "$machine" "$@"
}
# What root sends is not captured: as an application, `on`.
root_on() {
    machine=$1
    shift
    ssh -F $ssh_config "$machine" sudo "$@"
}

now() { date +%s.%N; }
seconds() { echo "$1 $(now)" | awk '{printf "%.1f", $2 - $1}'; }

# claim TEXT COMMAND...: the command must succeed.
claim() {
    text=$1
    shift
    began=$(now)
    # In a condition nothing that fails would end the command.
    set +e
    (
        set -e
        "$@"
    ) >build/vagrant/claim.log 2>&1
    status=$?
    set -e
    if [ $status -eq 0 ]; then
        echo "ok      $text ($(seconds "$began") s)"
    else
        echo "not ok  $text ($(seconds "$began") s)"
        cat build/vagrant/claim.log
        explain
        exit 1
    fi
}

explain() {
    for each in a b; do
        echo "--- $each"
        timeout 60 ssh -F $ssh_config $each 'sudo systemctl --no-pager --lines=0 status tproxy tproxy-init;
            sudo journalctl --no-pager --unit=tproxy --unit=tproxy-init --lines=40 --output=short-monotonic' 2>&1 || true
    done
}

# within SECONDS COMMAND...: repeat it until it succeeds.
within() {
    end=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt $end ] || return 1
        sleep 0.5
    done
}

# status WANTED [CURL'S ARGUMENTS]: asked by an application on a.
status() {
    wanted=$1
    shift
    got=$(on a curl --silent --output /dev/null --max-time 20 --write-out "'%{http_code}'" "$@") || true
    echo "$*: $got"
    [ "$got" = "$wanted" ]
}

reads_the_page() { on a curl --silent --show-error --fail --max-time 20 -H "'x-mark: $MARK'" "$@" | grep -qx $MARK; }

wants() {
    said=$(root_on "$1" /srv/tproxy/vagrant/logged "$2")
    echo "$1: $said"
    case $said in *"$3"*) ;; *) return 1 ;; esac
}

rules() { on "$1" 'sudo sh -c "iptables-legacy-save; ip6tables-legacy-save; iptables-nft-save; ip6tables-nft-save; nft list ruleset" 2>/dev/null'; }
captures() { rules "$1" | grep -qi 'tpx'; }
captures_nothing() { ! captures "$1"; }
active() { [ "$(on "$1" systemctl is-active tproxy tproxy-init | sort -u)" = active ]; }

settings() {
    root_on "$1" sh -eu -s "$@" <<'GUEST'
machine=$1
account=$2
shift 2
install -m 644 /srv/tproxy/vagrant/policies/"$machine"/*.yaml /etc/tproxy/policies
sed -i '/^# lab$/,$d' /etc/tproxy/tproxy.env /etc/tproxy/init.env
printf '%s\n' '# lab' TPROXY_CERTIFICATES=/etc/tproxy/certificates TPROXY_NAMESPACE=default "TPROXY_SERVICE_ACCOUNT=$account" \
    "TPROXY_WORKLOAD=$account" "TPROXY_LABELS=app=$account" >>/etc/tproxy/tproxy.env
printf '%s\n' '# lab' "$@" >>/etc/tproxy/init.env
# What legacy tables need, and the kernel does not load by itself.
printf '%s\n' iptable_nat ip6table_nat iptable_mangle ip6table_mangle iptable_raw ip6table_raw xt_owner xt_REDIRECT xt_multiport \
    >/etc/modules-load.d/tproxy-lab.conf
case $* in *=iptables) systemctl restart systemd-modules-load ;; *) rm /etc/modules-load.d/tproxy-lab.conf ;; esac
GUEST
}

# The authority is on a; what b needs of it goes there by ssh, and its key does not.
identities() {
    root_on a sh -eu -s <<'GUEST'
rm -rf /root/authority /root/web
tproxy ca init /root/authority --trust-domain cluster.local
tproxy ca issue /root/authority --namespace default --service-account client --ttl 24h --owner 1337 --out /etc/tproxy/certificates
tproxy ca issue /root/authority --namespace default --service-account web --ttl 24h --owner 1337 --out /root/web
GUEST
    root_on a tar -C /root/web --numeric-owner -chf - tls.crt tls.key ca.crt | root_on b tar -C /etc/tproxy/certificates --numeric-owner -xpf -
    root_on a rm -rf /root/web
}

server() {
    root_on b sh -eu -s <<GUEST
mkdir -p /srv/web
echo $MARK >/srv/web/page
echo $MARK >/srv/web/secret
cat >/etc/systemd/system/lab-web.service <<UNIT
[Unit]
Description=The lab's web server, which knows nothing of a mesh
[Service]
User=nobody
ExecStart=/usr/bin/python3 -m http.server --bind :: --directory /srv/web 8080
[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --quiet --now lab-web nftables
GUEST
}

listen() {
    root_on b sh -eu -s <<'GUEST'
rm -f /run/wire.pcap
interface=$(ip -o -4 address show to 203.0.113.12 | awk '{print $2}')
systemd-run --quiet --unit lab-wire tcpdump -Z root -U -i "$interface" -w /run/wire.pcap tcp port 8080
until [ -s /run/wire.pcap ]; do sleep 0.2; done
GUEST
}

# heard COMMAND: what was on the wire between them, while `listen` listened, is there, and COMMAND is asked for the mark.
heard() {
    root_on b sh -eu -s "$1" <<'GUEST'
sleep 1
systemctl stop lab-wire
size=$(stat -c %s /run/wire.pcap)
found=$(grep -a -c words-that-only-the-two-applications-know /run/wire.pcap || true)
echo "$size bytes, $found lines with the mark"
[ "$size" -gt 1000 ]
case $1 in nothing) [ "$found" -eq 0 ] ;; all) [ "$found" -ge 2 ] ;; esac
GUEST
}

refused_unmeshed() {
    code=0
    root_on a curl --silent --show-error --max-time 20 $URL/page || code=$?
    # Reset, or closed without an answer.
    [ $code -eq 56 ] || [ $code -eq 52 ]
}

allow_the_secret() {
    root_on b sh -eu -s <<'GUEST'
sed -i 's|paths: \[/page\]|paths: [/page, /secret]|' /etc/tproxy/policies/access.yaml
grep -q secret /etc/tproxy/policies/access.yaml
GUEST
}
forbid_the_secret() { root_on b install -m 644 /srv/tproxy/vagrant/policies/b/access.yaml /etc/tproxy/policies/access.yaml; }

pid() { root_on b systemctl show --property MainPID --value tproxy; }
same_pid() { [ "$(pid)" = "$1" ]; }
other_pid() {
    got=$(pid)
    [ "$got" != "$1" ] && [ "$got" != 0 ]
}
boot() { timeout 20 ssh -F $ssh_config b cat /proc/sys/kernel/random/boot_id 2>/dev/null; }
other_boot() {
    got=$(boot) && [ "$got" != "$1" ]
}
reboot_b() {
    before=$(boot)
    root_on b systemctl reboot 2>/dev/null || true
    ssh -F $ssh_config -O exit b 2>/dev/null || true
    within 600 other_boot "$before"
}

entered() { root_on b systemctl show --property ActiveEnterTimestampMonotonic --value "$1"; }
capture_came_first() {
    capture=$(entered tproxy-init.service)
    network=$(entered network.target)
    echo "capture after $capture us, network after $network us"
    [ "$capture" -gt 0 ] && [ "$capture" -lt "$network" ]
}

uninstall() { root_on "$1" /srv/tproxy/deploy/systemd/install --uninstall --purge; }

by_tproxy() {
    root_on b sh -eu -s <<'GUEST'
mkdir -p /etc/systemd/system/tproxy.service.d
printf '%s\n' '[Service]' CapabilityBoundingSet=CAP_NET_ADMIN AmbientCapabilities=CAP_NET_ADMIN >/etc/systemd/system/tproxy.service.d/lab.conf
for each in init tproxy; do echo TPROXY_INBOUND_MODE=tproxy >>/etc/tproxy/$each.env; done
systemctl daemon-reload
systemctl reload tproxy-init
systemctl restart tproxy
nft list ruleset | grep -q 'tproxy to :15006'
GUEST
}

nothing_left() {
    captures_nothing "$1"
    on "$1" sh -eu -s <<'GUEST'
for each in /opt/tproxy* /etc/tproxy /etc/systemd/system/tproxy*.service /etc/systemd/system/nftables.service.d /etc/sysusers.d/tproxy.conf; do
    [ ! -e "$each" ] || { echo "$each is left"; exit 1; }
done
! getent passwd tproxy
[ "$(systemctl list-units --all --plain --no-legend 'tproxy*' | wc -l)" -eq 0 ]
GUEST
}

mesh() {
    claim "each has an identity of one authority" identities
    claim "a's settings and policies, its rules by python-iptables" settings a client TPROXY_BACKEND=iptables
    claim "b's settings and policies, its rules by nft" settings b web TPROXY_BACKEND=nft
    claim "a web server on b, and a firewall beside it" server
    claim "systemd takes the units as they are" root_on a systemd-analyze --man=no verify tproxy.service tproxy-init.service
    for each in a b; do
        claim "$each: systemctl enable --now tproxy" root_on $each systemctl enable --quiet --now tproxy
        claim "$each: both units are active" active $each
    done
    claim "listening on b's wire" listen
    claim "an application on a reads b's page, IPv4" reads_the_page $URL/page
    claim "an application on a reads b's page, IPv6" reads_the_page http://web6.example:8080/page
    claim "nothing of what they said was readable on the wire" heard nothing
    claim "a's log: mutual TLS, with who b is" wants a /page "direction=outbound tls=mutual peer=cluster.local/ns/default/sa/web"
    claim "b's log: mutual TLS, with who a is" wants b /page "direction=inbound tls=mutual peer=cluster.local/ns/default/sa/client"
    claim "what bypasses a's sidecar is refused by b's: no plaintext" refused_unmeshed
    claim "a path that no policy allows: 403" status 403 $URL/secret
    before=$(pid)
    allow_the_secret
    claim "the policy edited, allowed without a restart: 200" within 60 status 200 $URL/secret
    forbid_the_secret
    claim "and back: 403" within 60 status 403 $URL/secret
    claim "by the same process" same_pid "$before"
    claim "the firewall reloaded, and with it all rules: ours are there again" root_on b systemctl reload nftables
    claim "b is captured" within 30 captures b
    claim "the firewall restarted: the same" root_on b systemctl restart nftables
    claim "b is captured" within 30 captures b
    root_on b kill -KILL "$before"
    claim "the sidecar killed: capture stays" captures b
    claim "another one carries on" within 60 other_pid "$before"
    claim "a reads b's page" within 60 reads_the_page $URL/page
    claim "systemctl restart: both units stay" root_on b systemctl restart tproxy
    claim "a reads b's page again" within 60 reads_the_page $URL/page
    claim "systemctl stop: capture is taken away" root_on b systemctl stop tproxy
    claim "b is not captured" within 30 captures_nothing b
    claim "systemctl start" root_on b systemctl start tproxy
    claim "b is captured again" captures b
    claim "b takes what is inbound by TPROXY, with the capability that a drop-in gives" by_tproxy
    claim "a reads b's page by TPROXY" within 60 reads_the_page $URL/page
    claim "b reboots" reboot_b
    claim "both units are back by themselves" within 300 active b
    claim "the capture stood before there was a network" capture_came_first
    claim "a reads b's page after b's reboot" within 60 reads_the_page $URL/page
    claim "a path that no policy allows is still: 403" status 403 $URL/secret
    for each in a b; do
        claim "$each: uninstall" uninstall $each
        claim "$each: no rules, no files, no user are left" nothing_left $each
    done
    claim "listening on b's wire" listen
    claim "without tproxy a reads b's page" reads_the_page $URL/page
    claim "and everybody on the wire with it" heard all
}

suite_venv() {
    root_on a sh -eu -s <<'GUEST'
cd /srv/tproxy
[ ! -x .venv/bin/pytest ] || exit 0
[ ! -d build/wheelhouse ] || export PIP_NO_INDEX=1 PIP_FIND_LINKS=/srv/tproxy/build/wheelhouse
.ci/packages test
python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[init,fast,inject]' --group test
GUEST
}

# Where a processor is emulated, what is held against the clock cannot hold, and the whole would take hours.
EMULATED=tests/netns/test_capture_life.py

# As root's own: whoever comes by sudo is known to the programs that are tested.
AS_ROOT="env -u SUDO_USER -u SUDO_UID -u SUDO_GID -u SUDO_COMMAND"

netns_suite() {
    # shellcheck disable=SC2086  # lists of words on purpose
    root_on a $AS_ROOT sh -eu -s ${NETNS:-tests/netns} <<'GUEST'
cd /srv/tproxy
.venv/bin/python -m pytest -m netns -q "$@" </dev/null
GUEST
}

netns() {
    if [ -z "${NETNS:-}" ] && [ "${TPROXY_VM_DRIVER:-kvm}" = qemu ]; then
        NETNS=$EMULATED
        echo "        emulated, so these alone: $NETNS"
    fi
    claim "an environment for the tests on a" suite_venv
    claim "the netns suite on a" netns_suite
    tail -1 build/vagrant/claim.log
}

pods_suite() {
    # shellcheck disable=SC2086  # a list of words on purpose
    root_on a $AS_ROOT sh -eu -s <<'GUEST'
cd /srv/tproxy
if [ -d build/wheelhouse ]; then
    # All but the wheel that was made here of a source whose hash is known: the images make their own.
    mkdir -p build/links
    ln -sf "$PWD"/build/wheelhouse/* build/links
    rm -f build/links/python_iptables-*.whl
    export PIP_NO_INDEX=1 PIP_FIND_LINKS="$PWD/build/links"
fi
export ROOTFS=/var/lib/tproxy/python.tar
.venv/bin/python -m pytest -m pods -q tests/pods </dev/null
GUEST
}

pods() {
    if ! on a command -v podman >/dev/null; then
        echo "        no podman on a: the pods suite is left out"
        return
    fi
    claim "an environment for the tests on a" suite_venv
    claim "the pods suite on a" pods_suite
    tail -1 build/vagrant/claim.log
}

VAGRANT_CWD=${VAGRANT_CWD:-$PWD/vagrant} vagrant ssh-config >$ssh_config
cat >>$ssh_config <<CONFIG
Host *
  ControlMaster auto
  ControlPath $PWD/build/vagrant/ssh-%n
  ControlPersist 60
  ServerAliveInterval 15
  LogLevel ERROR
CONFIG
[ $# -gt 0 ] || set -- mesh netns pods
for part in "$@"; do
    case $part in
    mesh | netns | pods)
        echo "# $part"
        $part
        ;;
    *)
        echo "unknown part $part: mesh, netns or pods" >&2
        exit 2
        ;;
    esac
done
