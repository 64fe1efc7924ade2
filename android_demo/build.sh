#!/usr/bin/env bash
# Builds a signed debug APK without Gradle and Google's repository:
#
#     android_demo/build.sh [--test-data DIRECTORY] [--python PYTHON] [--aar FILE] [--skip-tests]
#
# Needs a JDK 17, Maven, Python 3, zip and unzip; what else it needs it fetches once, from Maven
# Central and Debian's archive (or takes aapt2, zipalign and apksigner from PATH where all are
# there). --test-data names what `python -m tests.golden.prepare` made, --python an interpreter that
# runs the Python runtime; without them the tests that need them are skipped. --aar names
# onnxruntime-android's AAR; without it Maven is asked, and if it has none either, the APK is built
# without onnxruntime's library: it installs bundles, but opens none and answers no question.
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
CACHE=${FOGGEN_ANDROID_CACHE:-$HOME/.cache/foggen-android}
OUT=$HERE/app/target
ABI=arm64-v8a
TEST_DATA='' PYTHON=python3 AAR='' SKIP_TESTS=false

while [ $# -gt 0 ]; do
  case $1 in
    --test-data) TEST_DATA=$(cd "$2" && pwd); shift 2 ;;
    --python) PYTHON=$2; shift 2 ;;
    --aar) AAR=$(realpath "$2"); shift 2 ;;
    --skip-tests) SKIP_TESTS=true; shift ;;
    -h|--help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "build.sh: no option '$1'; see --help" >&2; exit 2 ;;
  esac
done

say() { echo "== $*" >&2; }
maven() { mvn -B -q --no-transfer-progress "$@"; }
property() { sed -n "s:.*<$2>\(.*\)</$2>.*:\1:p" "$1" | head -1; }

KOTLIN=$(property "$HERE/app/pom.xml" kotlin.version)
ONNXRUNTIME=$(property "$HERE/core/pom.xml" onnxruntime.version)
FRAMEWORK_VERSION=$(property "$HERE/app/pom.xml" framework.version)
DX=$(property "$HERE/app/pom.xml" dx.version)

# Debian's tools, unpacked rather than installed: that needs no root.
PACKAGES="aapt zipalign apksigner android-libaapt android-libandroidfw
  android-libbacktrace android-libbase android-libcutils android-liblog android-libutils
  android-libziparchive libprotobuf-lite32 libzopfli1 libpng16-16 libexpat1 p7zip-full"

fetch_tools() {
  [ -e "$CACHE/tools/.ready" ] && return
  say "fetching Debian's tools"
  rm -rf "$CACHE/tools" "$CACHE/packages"
  mkdir -p "$CACHE/tools" "$CACHE/packages"
  # shellcheck disable=SC2086
  (cd "$CACHE/packages" && apt-get -qq download $PACKAGES)
  for package in "$CACHE"/packages/*.deb; do dpkg -x "$package" "$CACHE/tools"; done
  rm -rf "$CACHE/packages"
  touch "$CACHE/tools/.ready"
}

choose_tools() {
  if command -v aapt2 zipalign apksigner >/dev/null; then
    AAPT2=aapt2 ZIPALIGN=zipalign APKSIGNER=apksigner
    return
  fi
  fetch_tools
  local root=$CACHE/tools/usr triplet
  triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch 2>/dev/null || echo "$(uname -m)-linux-gnu")
  local libraries=$root/lib/$triplet/android:$root/lib/$triplet:$root/lib/p7zip:$root/lib
  AAPT2="env LD_LIBRARY_PATH=$libraries $root/lib/android-sdk/build-tools/debian/aapt2"
  ZIPALIGN="env LD_LIBRARY_PATH=$libraries $root/lib/android-sdk/build-tools/debian/zipalign"
  APKSIGNER="java -jar $root/share/java/apksigner.jar"
}

# Debian's framework is Android 10's and knows no type of foreground service, Debian's aapt2 does not
# read Android 15's: the resources of Android 14 are out of a jar that is made for tests. It does not
# know a service's <property> either, hence --warn-manifest-validation.
fetch_framework() {
  FRAMEWORK=$CACHE/framework-$FRAMEWORK_VERSION.apk
  [ -e "$FRAMEWORK" ] && return
  say "fetching Android's resources"
  local folder=$CACHE/framework
  rm -rf "$folder"
  mkdir -p "$folder"
  maven dependency:copy -Dartifact="org.robolectric:android-all:$FRAMEWORK_VERSION" -DoutputDirectory="$folder"
  (cd "$folder" && unzip -qo ./*.jar AndroidManifest.xml resources.arsc && zip -q -X -0 framework.apk AndroidManifest.xml resources.arsc)
  mv "$folder/framework.apk" "$FRAMEWORK"
  rm -rf "$folder"
}

link_resources() {
  say "linking resources"
  rm -rf "$OUT/generated" "$OUT/apk"
  mkdir -p "$OUT/generated" "$OUT/apk"
  # What Gradle's manifest merger would do: the marked elements are only there to be taken away.
  sed '/tools:node="remove"/d' "$HERE/app/src/main/AndroidManifest.xml" > "$OUT/generated/AndroidManifest.xml"
  $AAPT2 compile --dir "$HERE/app/src/main/res" -o "$OUT/resources.zip"
  $AAPT2 link -I "$FRAMEWORK" --manifest "$OUT/generated/AndroidManifest.xml" \
    --warn-manifest-validation --debug-mode --min-sdk-version 27 --target-sdk-version 35 --version-code 1 --version-name 0.1.0 \
    -A "$HERE/app/src/main/assets" -0 .data -0 .onnx -0 .so \
    --java "$OUT/generated" -o "$OUT/apk/linked.apk" "$OUT/resources.zip"
}

compile_and_test() {
  say "compiling and testing core"
  maven -f "$HERE/core" install "-Dfoggen.test.data=$TEST_DATA" "-Dfoggen.python=$PYTHON" "-DskipTests=$SKIP_TESTS"
  say "compiling and testing app"
  maven -f "$HERE/app" install "-Dfoggen.test.data=$TEST_DATA" "-DskipTests=$SKIP_TESTS"
}

make_dex() {
  say "dexing"
  maven dependency:copy -Dartifact=com.jakewharton.android.repackaged:dalvik-dx:"$DX" -DoutputDirectory="$OUT/dx"
  maven -f "$HERE/app" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$OUT/jars"
  local classes=$OUT/classes-for-dex jar
  rm -rf "$classes" "$OUT"/apk/*.dex
  mkdir -p "$classes"
  for jar in "$OUT"/jars/*.jar; do
    case $(basename "$jar") in
      junit*|opentest4j*|apiguardian*|android-all*|jna*) continue ;;
    esac
    unzip -qo "$jar" '*.class' -d "$classes"
  done
  cp -r "$OUT/classes/foggen" "$classes/"
  # What is for JVMs of later versions, and for debuggers.
  rm -rf "$classes/META-INF" "$classes/module-info.class" "$classes/DebugProbesKt.class"
  (cd "$OUT" && java -Xmx1g -cp "$OUT/dx/dalvik-dx-$DX.jar" com.android.dx.command.dexer.Main --multi-dex \
    --min-sdk-version=26 --output="$OUT/apk" "$classes")
}

find_aar() {
  [ -n "$AAR" ] && return
  local group=com.microsoft.onnxruntime name=onnxruntime-android
  if maven dependency:copy -Dartifact="$group:$name:$ONNXRUNTIME:aar" -DoutputDirectory="$OUT/aar" >/dev/null 2>&1; then
    AAR=$OUT/aar/$name-$ONNXRUNTIME.aar
  fi
}

pack() {
  say "packing"
  find_aar
  cd "$OUT/apk"
  cp linked.apk unaligned.apk
  zip -q -X unaligned.apk classes*.dex
  if [ -n "$AAR" ]; then
    rm -rf native && mkdir -p "native/lib/$ABI"
    unzip -qoj "$AAR" "jni/$ABI/*.so" -d "native/lib/$ABI"
    (cd native && zip -q -X -0 ../unaligned.apk "lib/$ABI"/*.so)
  else
    say "NO onnxruntime-android $ONNXRUNTIME: the APK has no native library and runs no model; see --aar"
  fi
  $ZIPALIGN -f 16384 unaligned.apk aligned.apk
  cd "$HERE"
}

sign() {
  say "signing with a debug key"
  local keys=$CACHE/debug.keystore
  mkdir -p "$CACHE"
  [ -e "$keys" ] || keytool -genkeypair -keystore "$keys" -storepass android -keypass android -alias debug \
    -keyalg RSA -keysize 2048 -validity 10000 -dname 'CN=Debug' >/dev/null 2>&1
  $APKSIGNER sign --ks "$keys" --ks-pass pass:android --ks-key-alias debug --min-sdk-version 27 \
    --v1-signing-enabled false --v2-signing-enabled true --v3-signing-enabled true \
    --out "$OUT/foggen-demo.apk" "$OUT/apk/aligned.apk"
}

verify() {
  say "checking the APK"
  $APKSIGNER verify --verbose --min-sdk-version 27 "$OUT/foggen-demo.apk" | grep -E '^Verifie' >&2
  python3 "$HERE/check_apk.py" "$OUT/foggen-demo.apk" --aapt2 "$AAPT2" --classes "$OUT/classes-for-dex" \
    --json "$OUT/foggen-demo.json" >&2
  echo "$OUT/foggen-demo.apk"
}

choose_tools
fetch_framework
link_resources
compile_and_test
make_dex
pack
sign
verify
