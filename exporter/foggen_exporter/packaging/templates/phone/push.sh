#!/bin/sh
# Pushes the bundle to a phone or emulator, for one installed, debuggable app.
#
# Usage: ./push.sh APPLICATION_ID [SERIAL]
# Example: ./push.sh org.example.foggen emulator-5554
set -eu

[ $# -ge 1 ] && [ $# -le 2 ] || { sed -n '4,5s/^# //p' "$0" >&2; exit 2; }
application=$1
[ $# -eq 1 ] || export ANDROID_SERIAL="$2"
cd "$(dirname "$0")"

waiting=/data/local/tmp/foggen-@ID@
place=no_backup/foggen/@ID@

adb shell "mkdir -p $waiting"
# --sync skips what is there already, so an interrupted push goes on where it stopped.
adb push --sync bundle/. "$waiting"
adb push SHA256SUMS "$waiting"
adb shell "cd $waiting && sha256sum -c SHA256SUMS" >&2
# Copied beside its place and then renamed: the app never sees a part of it.
adb shell "run-as $application sh -c 'rm -rf $place.partial && mkdir -p $place.partial &&
  cp $waiting/* $place.partial/ && rm -rf $place && mv $place.partial $place'"
adb shell "rm -rf $waiting"
echo "Pushed to $place of $application" >&2
