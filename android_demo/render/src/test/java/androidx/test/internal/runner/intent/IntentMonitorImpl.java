package androidx.test.internal.runner.intent;
import android.app.*;import android.content.*;import android.os.Bundle;import java.util.*;
import androidx.test.runner.lifecycle.*;import androidx.test.runner.intent.*;
public class IntentMonitorImpl implements IntentMonitor { public void signalIntent(Intent i){} }
