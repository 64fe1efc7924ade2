package androidx.test.internal.runner.lifecycle;
import android.app.*;import android.content.*;import android.os.Bundle;import java.util.*;
import androidx.test.runner.lifecycle.*;import androidx.test.runner.intent.*;
public class ApplicationLifecycleMonitorImpl implements ApplicationLifecycleMonitor { public void signalLifecycleChange(Application a, ApplicationStage s){} }
