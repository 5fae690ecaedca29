#!/bin/sh
# Makes Python's base image ours: no installer of packages, and the user 10001 with folders for volumes.
set -eu
echo 'rapport:x:10001:10001::/tmp:/usr/sbin/nologin' >>/etc/passwd
echo 'rapport:x:10001:' >>/etc/group
(cd /var/lib && install -d -o 10001 -g 10001 rapport rapport/archive rapport/mlflow rapport/models rapport/postgres)
find / -xdev -depth \( \
    -path '*/bin/pip*' -o -path '*/bin/wheel*' -o -path '*/bin/easy_install*' -o \
    -path '*-packages/pip' -o -path '*-packages/pip-*' -o \
    -path '*-packages/setuptools' -o -path '*-packages/setuptools-*' -o \
    -path '*-packages/wheel' -o -path '*-packages/wheel-*' -o -path '*-packages/pkg_resources' -o \
    -path '*/python3*/ensurepip' -o -path '*/python-wheels' -o -path '*/share/python3*pip*' \
    \) -exec rm -r {} +
