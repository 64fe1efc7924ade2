#!/usr/bin/env bash
# Not yet run: installs APK and bundle on the one device that adb sees, and runs the benchmark there.
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

await() {
  for _ in $(seq 120); do
    if adb shell ls "$FILES/$1.error" >/dev/null 2>&1; then
      adb shell cat "$FILES/$1.error" >&2
      return 1
    fi
    adb shell ls "$FILES/$1" >/dev/null 2>&1 && return 0
    sleep 2
  done
  echo "emulator.sh: no $1 after four minutes" >&2
  return 1
}

adb shell rm -f "$FILES/profile.json" "$FILES/profile.json.error"
adb shell am start -W -n foggen.app/.screens.BenchmarkActivity -a foggen.app.action.BENCHMARK \
  --ei questions 10
await profile.json
adb pull "$FILES/profile.json" profile.json
