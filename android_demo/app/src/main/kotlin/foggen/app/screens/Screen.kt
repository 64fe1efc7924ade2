package foggen.app.screens

import android.app.Activity
import android.content.Intent
import android.os.Build
import android.os.Bundle
import android.view.View
import android.view.WindowInsets
import foggen.app.platform.DemoApplication
import foggen.app.platform.HandlerDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.cancel
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.launch

/** A screen that shows a state while it is visible. */
abstract class Screen(private val layout: Int) : Activity() {
    protected val demo get() = application as DemoApplication
    protected val numbers get() = Numbers(resources.configuration.locales[0])
    private var visible: CoroutineScope? = null

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(layout)
        keepClearOfBars(view(android.R.id.content))
    }

    override fun onStart() {
        super.onStart()
        visible = CoroutineScope(Job() + HandlerDispatcher).also { watch(it) }
    }

    override fun onStop() {
        visible?.cancel()
        visible = null
        super.onStop()
    }

    /** Starts what shows states; [scope] ends when the screen is left. */
    protected open fun watch(scope: CoroutineScope) = Unit

    protected fun <T> CoroutineScope.show(state: StateFlow<T>, render: (T) -> Unit) {
        launch { state.collect { render(it) } }
    }

    protected fun <T : View> view(id: Int): T = checkNotNull(findViewById<T>(id)) { "the layout has no such view" }

    protected fun onClick(id: Int, action: () -> Unit) = view<View>(id).setOnClickListener { action() }

    protected fun open(screen: Class<out Activity>) = startActivity(Intent(this, screen))

    protected fun share(text: String, kind: String) {
        val send = Intent(Intent.ACTION_SEND).setType(kind).putExtra(Intent.EXTRA_TEXT, text)
        startActivity(Intent.createChooser(send, null))
    }

    /** Android 15 draws behind the system's bars and cut-outs. */
    private fun keepClearOfBars(content: View) {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return
        content.setOnApplyWindowInsetsListener { view, insets ->
            val kinds = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout() or WindowInsets.Type.ime()
            val edges = insets.getInsets(kinds)
            view.setPadding(edges.left, edges.top, edges.right, edges.bottom)
            WindowInsets.CONSUMED
        }
    }
}
