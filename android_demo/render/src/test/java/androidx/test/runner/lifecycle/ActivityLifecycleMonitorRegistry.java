package androidx.test.runner.lifecycle;
import android.app.*;import android.content.*;import android.os.Bundle;import java.util.*;
import androidx.test.runner.lifecycle.*;import androidx.test.runner.intent.*;
public class ActivityLifecycleMonitorRegistry { static ActivityLifecycleMonitor m; public static ActivityLifecycleMonitor getInstance(){return m;} public static void registerInstance(ActivityLifecycleMonitor x){m=x;} }
