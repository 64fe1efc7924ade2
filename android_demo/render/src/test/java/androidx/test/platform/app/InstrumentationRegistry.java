package androidx.test.platform.app;
import android.app.*;import android.content.*;import android.os.Bundle;import java.util.*;
import androidx.test.runner.lifecycle.*;import androidx.test.runner.intent.*;
public class InstrumentationRegistry { static Instrumentation i; static Bundle b; public static Instrumentation getInstrumentation(){ if(i==null) throw new IllegalStateException(); return i;} public static Bundle getArguments(){return b;} public static void registerInstance(Instrumentation x, Bundle y){i=x;b=y;} }
