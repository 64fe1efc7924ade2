package androidx.test.runner.intent;
import android.app.*;import android.content.*;import android.os.Bundle;import java.util.*;
import androidx.test.runner.lifecycle.*;import androidx.test.runner.intent.*;
public class IntentStubberRegistry { public static boolean isLoaded(){return false;} public static IntentStubber getInstance(){return null;} }
