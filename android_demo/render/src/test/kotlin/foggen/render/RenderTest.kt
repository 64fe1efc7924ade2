package foggen.render

import android.app.Activity
import android.graphics.Bitmap
import android.graphics.Canvas
import android.view.View
import android.widget.EditText
import foggen.Result
import foggen.Timing
import foggen.app.R
import foggen.app.ask.AskState
import foggen.app.benchmark.BenchmarkState
import foggen.app.device.DeviceState
import foggen.app.platform.DemoApplication
import foggen.app.screens.AskActivity
import foggen.app.screens.BenchmarkActivity
import foggen.app.screens.ModelActivity
import foggen.app.screens.SettingsActivity
import foggen.json.parseJson
import java.io.File
import java.io.FileOutputStream
import java.nio.file.Paths
import kotlinx.coroutines.flow.MutableStateFlow
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.shadows.ShadowLooper

/** Draws each screen as it would be on a phone, with example values. */
@RunWith(RobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = [35], application = DemoApplication::class)
class RenderTest {
    private fun picture(name: String, qualifiers: String, screen: Class<out Activity>, fontScale: Float = 1f, fill: (Activity) -> Unit = {}) {
        RuntimeEnvironment.setQualifiers(qualifiers)
        RuntimeEnvironment.setFontScale(fontScale)
        val activity = Robolectric.buildActivity(screen).setup().get()
        fill(activity)
        ShadowLooper.idleMainLooper()
        val root = activity.window.decorView
        val bitmap = Bitmap.createBitmap(root.width, root.height, Bitmap.Config.ARGB_8888)
        root.draw(Canvas(bitmap))
        FileOutputStream(File(System.getProperty("render.out"), "$name.png")).use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
    }

    @Suppress("UNCHECKED_CAST")
    private fun <T> set(model: Any, value: T) {
        val field = model.javaClass.getDeclaredField("states").apply { isAccessible = true }
        (field.get(model) as MutableStateFlow<T>).value = value
    }

    private fun answered(activity: Activity) {
        val result = Result.of(parseJson(File(System.getProperty("render.result")).readText()).asJsonObject)
            .copy(timingMs = Timing(decision = 100.0, total = 200.0))
        checkNotNull(activity.findViewById<EditText>(R.id.question)).setText("Pick the animal.\nA) camel\nB) flute")
        set((activity.application as DemoApplication).asking, AskState.Answered(result, DeviceState(0.42, 0, 81.0, true)))
    }

    private fun measured(activity: Activity) {
        val times = """{"p50":100,"p90":130}"""
        val summary = """{"summary":{"questions_ms":{"prefill":{"p50":80,"p90":90},"decision":$times,"total":{"p50":200,"p90":400}},
            "tokens_per_second":{"pp128":$times,"tg64":$times}}}"""
        val state = BenchmarkState.Finished(parseJson(summary).asJsonObject, Paths.get("profile.json"))
        set((activity.application as DemoApplication).benchmark, state)
    }

    @Test
    fun pictures() {
        val phone = "en-w411dp-h891dp-port-notnight-xhdpi"
        picture("ask", phone, AskActivity::class.java, fill = ::answered)
        picture("ask-night-large", phone.replace("notnight", "night"), AskActivity::class.java, 2f, ::answered)
        picture("model", phone, ModelActivity::class.java)
        picture("settings", phone, SettingsActivity::class.java)
        picture("benchmark", phone.replace("notnight", "night"), BenchmarkActivity::class.java, fill = ::measured)
    }
}
