#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install strictmail from a checkout, or bring an installation up to date. An existing
# configuration is kept, and refused before anything is restarted if the new version refuses it.
# usage: packaging/install.sh [--root DIR] [--no-start]
#   --root DIR   put the files under DIR and touch nothing else (for images and packages)
#   --no-start   neither enable nor start the units
set -eu
cd "$(dirname "$0")/.."

root='' start=yes
while [ $# -gt 0 ]; do
    case $1 in
        --root) [ $# -gt 1 ] || { echo "install: --root needs a directory" >&2; exit 64; }
                root=$2 start=no; shift 2 ;;
        --no-start) start=no; shift ;;
        *) echo "usage: packaging/install.sh [--root DIR] [--no-start]" >&2; exit 64 ;;
    esac
done
[ -n "$root" ] || [ "$(id -u)" = 0 ] || { echo "install: only root can install into /" >&2; exit 77; }

python=${PYTHON:-python3}
"$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "install: needs Python 3.11 or newer with venv (apt-get install python3-venv)" >&2
    exit 69
}

home=/opt/strictmail
venv=$root$home/venv

# The new version is built beside the running one and takes its place in one step.
rm -rf "$venv.new"
mkdir -p "$root$home"
"$python" -m venv "$venv.new"
"$venv.new/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements/runtime.txt
site=$("$venv.new/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -R src/strictmail "$site/"
find "$site/strictmail" -name __pycache__ -prune -exec rm -rf {} +
"$venv.new/bin/python" -m compileall -q "$site/strictmail"
"$venv.new/bin/python" -m strictmail --version >/dev/null

conf=$root/etc/strictmail/strictmail.toml
if [ -e "$conf" ]; then
    "$venv.new/bin/python" -m strictmail config check "$conf" >/dev/null || {
        echo "install: nothing was changed; correct the configuration first" >&2
        rm -rf "$venv.new"
        exit 78
    }
else
    install -D -m 0644 packaging/strictmail.toml "$conf"
fi

rm -rf "$venv.old"
[ ! -e "$venv" ] || mv "$venv" "$venv.old"
mv "$venv.new" "$venv"
rm -rf "$venv.old"

mkdir -p "$root/usr/local/bin"
cat >"$root/usr/local/bin/strictmail" <<EOF
#!/bin/sh
exec $home/venv/bin/python -m strictmail "\$@"
EOF
chmod 755 "$root/usr/local/bin/strictmail"

for page in 1 5; do
    for file in man/*."$page"; do
        install -D -m 0644 "$file" "$root/usr/local/share/man/man$page/${file##*/}"
    done
done
install -D -m 0644 packaging/sysusers.d/strictmail.conf "$root/etc/sysusers.d/strictmail.conf"
install -D -m 0644 packaging/tmpfiles.d/strictmail.conf "$root/etc/tmpfiles.d/strictmail.conf"
units=$root/etc/systemd/system
for unit in strictmail-postfix.socket strictmail-tlsrpt.socket; do
    install -D -m 0644 "packaging/systemd/$unit" "$units/$unit"
done
mkdir -p "$units"
sed 's|^ExecStart=/usr/bin/|ExecStart=/usr/local/bin/|' packaging/systemd/strictmail.service >"$units/strictmail.service"

if [ -z "$root" ]; then
    if command -v systemd-sysusers >/dev/null 2>&1; then
        systemd-sysusers /etc/sysusers.d/strictmail.conf
        systemd-tmpfiles --create /etc/tmpfiles.d/strictmail.conf
    elif ! id strictmail >/dev/null 2>&1; then
        useradd --system --home-dir /var/lib/strictmail --shell /usr/sbin/nologin strictmail
        install -d -o strictmail -g strictmail -m 0750 /var/lib/strictmail
    fi
fi

if [ "$start" = yes ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable -q strictmail-postfix.socket strictmail.service
    systemctl start strictmail-postfix.socket
    systemctl restart strictmail.service
    echo "strictmail runs; next: strictmail doctor"
else
    echo "installed; start it with: systemctl enable --now strictmail-postfix.socket strictmail.service"
fi
