package foggen.app.screens

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
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

private const val NOTIFY = 2

/** A screen that shows a state while it is visible. */
abstract class Screen(private val layout: Int) : Activity() {
    protected val demo get() = application as DemoApplication
    protected val wording get() = Wording(resources)
    private var visible: CoroutineScope? = null

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(layout)
        // Android reads labels in the device's language, which need not be the application's.
        packageManager.getActivityInfo(componentName, 0).labelRes.takeIf { it != 0 }?.let(::setTitle)
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

    /** Asks to show notifications, so that a long run can be seen from elsewhere; it runs in any case. */
    protected fun askToNotify() {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU) return
        val permission = Manifest.permission.POST_NOTIFICATIONS
        if (checkSelfPermission(permission) != PackageManager.PERMISSION_GRANTED) requestPermissions(arrayOf(permission), NOTIFY)
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
