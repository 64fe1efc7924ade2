package androidx.test.runner.lifecycle;
import android.app.*;import android.content.*;import android.os.Bundle;import java.util.*;
import androidx.test.runner.lifecycle.*;import androidx.test.runner.intent.*;
public interface ActivityLifecycleMonitor { void addLifecycleCallback(ActivityLifecycleCallback c); void removeLifecycleCallback(ActivityLifecycleCallback c); Stage getLifecycleStageOf(Activity a); Collection<Activity> getActivitiesInStage(Stage s); }
