#!/usr/bin/env bash
# Not yet run: installs APK and bundle on the one device that adb sees, and runs the benchmark there,
# two rounds in a fresh process each.
#
#     android_demo/emulator.sh APK BUNDLE
set -euo pipefail

APK=$1 BUNDLE=$2
FILES=/sdcard/Android/data/foggen.app/files
PLACE=no_backup/bundles

adb install -r -t "$APK"
# A debuggable build lets adb write where installs go.
adb push "$BUNDLE/." /data/local/tmp/bundle/
adb shell run-as foggen.app mkdir -p "$PLACE"
adb shell run-as foggen.app cp -r /data/local/tmp/bundle "$PLACE/bundle-pushed"
adb shell "run-as foggen.app sh -c 'printf bundle-pushed > $PLACE/current'"

rounds() {
  adb exec-out cat "$FILES/profile.json" 2>/dev/null |
    python3 -c 'import json, sys; print(len(json.load(sys.stdin)["rounds"]))' 2>/dev/null || echo 0
}

await() {
  for _ in $(seq 120); do
    if adb shell ls "$FILES/profile.json.error" >/dev/null 2>&1; then
      adb shell cat "$FILES/profile.json.error" >&2
      return 1
    fi
    [ "$(rounds)" = "$1" ] && return 0
    sleep 2
  done
  echo "emulator.sh: no round $1 after four minutes" >&2
  return 1
}

adb shell rm -f "$FILES/profile.json" "$FILES/profile.json.error"
for round in 1 2; do
  adb shell am force-stop foggen.app
  adb shell am start -W -n foggen.app/.screens.BenchmarkActivity -a foggen.app.action.BENCHMARK \
    --ei questions 10 --ez append true
  await "$round"
done
adb pull "$FILES/profile.json" profile.json
