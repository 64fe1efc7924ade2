package androidx.test.espresso;
import android.app.*;import android.content.*;import android.os.Bundle;import java.util.*;
import androidx.test.runner.lifecycle.*;import androidx.test.runner.intent.*;
public class IdlingRegistry { static IdlingRegistry r=new IdlingRegistry(); public static IdlingRegistry getInstance(){return r;} public Collection<IdlingResource> getResources(){return Collections.emptyList();} public Collection<android.os.Looper> getLoopers(){return Collections.emptyList();} }
