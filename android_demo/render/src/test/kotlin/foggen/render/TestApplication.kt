package foggen.render

import android.app.Activity
import foggen.app.benchmark.Measuring
import foggen.app.platform.DemoApplication
import foggen.profile.ProfileEvent
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.flow

/** The application, with a benchmark that asks three questions of twenty and then waits. */
class TestApplication : DemoApplication() {
    override fun measuring() = Measuring {
        flow {
            emit(ProfileEvent.Asked(3, 20))
            awaitCancellation()
        }
    }
}

internal val Activity.demo get() = application as TestApplication

/** Puts a view model into a state, whatever it did before. */
@Suppress("UNCHECKED_CAST")
internal fun <T> set(model: Any, value: T) {
    val field = model.javaClass.getDeclaredField("states").apply { isAccessible = true }
    (field.get(model) as MutableStateFlow<T>).value = value
}
