package foggen.render

import android.app.Activity
import android.graphics.Bitmap
import android.graphics.Canvas
import android.view.View
import android.view.ViewGroup
import android.widget.EditText
import android.widget.TextView
import foggen.Result
import foggen.Timing
import foggen.app.R
import foggen.app.ask.AskState
import foggen.app.benchmark.BenchmarkState
import foggen.app.device.DeviceState
import foggen.app.install.InstallProgress
import foggen.app.install.InstallState
import foggen.app.screens.AskActivity
import foggen.app.screens.BenchmarkActivity
import foggen.app.screens.ModelActivity
import foggen.app.screens.SettingsActivity
import foggen.json.parseJson
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.shadows.ShadowLooper
import java.io.File
import java.io.FileOutputStream
import java.nio.file.Paths

private const val PHONE = "w411dp-h891dp-port-notnight-xhdpi"
private const val TALL = "w411dp-h1300dp-port-notnight-xhdpi"

/** Draws each screen as it would be on a phone, with example values, and looks for texts that do not fit. */
@RunWith(RobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = [35], application = TestApplication::class)
class RenderTest {
    private fun picture(name: String, qualifiers: String, screen: Screen, fontScale: Float = 1f) {
        RuntimeEnvironment.setQualifiers(qualifiers)
        RuntimeEnvironment.setFontScale(fontScale)
        val activity = Robolectric.buildActivity(screen.activity).setup().get()
        screen.fill(activity)
        ShadowLooper.idleMainLooper()
        val root = activity.window.decorView
        root.measure(exactly(root.width), exactly(root.height))
        root.layout(0, 0, root.width, root.height)
        val bitmap = Bitmap.createBitmap(root.width, root.height, Bitmap.Config.ARGB_8888)
        root.draw(Canvas(bitmap))
        FileOutputStream(File(System.getProperty("render.out"), "$name.png")).use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
        assertEquals("$name: texts that do not fit", emptyList<String>(), misfits(root))
        val label = activity.packageManager.getActivityInfo(activity.componentName, 0).labelRes
        if (label != 0) assertEquals(activity.getString(label), activity.title)
    }

    private fun exactly(size: Int) = View.MeasureSpec.makeMeasureSpec(size, View.MeasureSpec.EXACTLY)

    /** Returns the texts that are cut off, or broken within a word. */
    private fun misfits(view: View): List<String> = when {
        view.visibility != View.VISIBLE -> emptyList()
        view is ViewGroup -> (0 until view.childCount).flatMap { misfits(view.getChildAt(it)) }
        view is TextView && view !is EditText && view.text.isNotEmpty() -> listOf(view.text.toString()).filter { isCut(view) || isBroken(view) }
        else -> emptyList()
    }

    private fun isCut(view: TextView): Boolean {
        val layout = view.layout ?: return true
        val room = view.height - view.compoundPaddingTop - view.compoundPaddingBottom
        return layout.height > room || (0 until layout.lineCount).any { layout.getEllipsisCount(it) > 0 || layout.getLineMax(it) > layout.width }
    }

    private fun isBroken(view: TextView): Boolean {
        val text = view.text
        return (0 until view.layout.lineCount - 1).map { view.layout.getLineEnd(it) }.any { text[it - 1].isLetter() && text[it].isLetter() }
    }

    private class Screen(val activity: Class<out Activity>, val fill: (Activity) -> Unit = {})

    private val screens = mapOf(
        "ask" to Screen(AskActivity::class.java, ::answered),
        "model" to Screen(ModelActivity::class.java, ::fetching),
        "settings" to Screen(SettingsActivity::class.java),
        "benchmark" to Screen(BenchmarkActivity::class.java, ::measured),
    )

    private fun answered(activity: Activity) {
        val result = Result.of(parseJson(File(System.getProperty("render.result")).readText()).asJsonObject)
            .copy(timingMs = Timing(decision = 100.0, total = 200.0))
        checkNotNull(activity.findViewById<EditText>(R.id.question)).setText("Pick the animal.\nA) camel\nB) flute")
        val levels = listOf(0.0, 0.25, 0.5, 0.75, 1.0)
        set(activity.demo.asking, AskState.Answered(result, DeviceState(0.42, 0, 81.0, true), levels))
    }

    private fun fetching(activity: Activity) {
        val progress = InstallProgress.Fetching("model.onnx.data", 120_000_000, 319_000_000)
        set<InstallState>(activity.demo.installing, InstallState.Working(progress))
    }

    private fun measured(activity: Activity) {
        val times = """{"p50":100,"p90":130}"""
        val summary = """{"summary":{"questions_ms":{"prefill":{"p50":80,"p90":90},"decision":$times,"letter":{"p50":140,"p90":180},
            "answer":{"p50":60,"p90":80},"total":{"p50":200,"p90":400}},"tokens_per_second":{"pp128":$times,"tg64":$times}}}"""
        val state = BenchmarkState.Finished(parseJson(summary).asJsonObject, Paths.get("profile.json"))
        set<BenchmarkState>(activity.demo.benchmark, state)
    }

    @Test
    fun `in English, by day and by night`() {
        for ((name, screen) in screens) picture(name, "en-$PHONE", screen)
        picture("ask-night-large", "en-$PHONE".replace("notnight", "night"), screens.getValue("ask"), 2f)
        picture("benchmark-night", "en-$PHONE".replace("notnight", "night"), screens.getValue("benchmark"))
    }

    @Test
    fun `in every language, with fonts of once and twice the size`() {
        for (language in listOf("en", "kk", "ru")) {
            for ((name, screen) in screens) {
                picture("$name-$language", "$language-$PHONE", screen)
                picture("$name-$language-large", "$language-$TALL", screen, 2f)
            }
        }
    }
}
