package androidx.test.internal.platform.util;
import android.app.*;import android.content.*;import android.os.Bundle;import java.util.*;
import androidx.test.runner.lifecycle.*;import androidx.test.runner.intent.*;
public class TestOutputEmitter { public static void dumpThreadStates(String s){} }
