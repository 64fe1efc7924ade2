package androidx.test.espresso;
import android.app.*;import android.content.*;import android.os.Bundle;import java.util.*;
import androidx.test.runner.lifecycle.*;import androidx.test.runner.intent.*;
public interface IdlingResource { interface ResourceCallback{ void onTransitionToIdle(); } void registerIdleTransitionCallback(ResourceCallback c); boolean isIdleNow(); String getName(); }
