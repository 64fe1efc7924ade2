package foggen.app.screens

import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.EditText
import android.widget.ProgressBar
import android.widget.TextView
import foggen.app.R
import foggen.app.install.HttpSource
import foggen.app.install.InstallException
import foggen.app.install.InstallProgress
import foggen.app.install.InstallState
import foggen.app.install.ZipSource
import foggen.app.platform.AssetSource
import kotlinx.coroutines.CoroutineScope

private const val PICK = 1
private const val STEPS = 1_000

/** Installs a bundle: by download, from a ZIP file, or from an asset pack. */
class ModelActivity : Screen(R.layout.model) {
    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        onClick(R.id.download) {
            val address = view<EditText>(R.id.address).text.toString()
            val loopback = demo.settings.load().allowLoopback
            demo.installing.install { HttpSource(address, loopback) }
        }
        onClick(R.id.pick) {
            val pick = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("application/zip")
            startActivityForResult(pick, PICK)
        }
        onClick(R.id.asset_pack) { demo.installing.install { AssetSource(assets) } }
        onClick(R.id.cancel) { demo.installing.cancel() }
    }

    override fun watch(scope: CoroutineScope) = with(scope) {
        demo.installing.refresh()
        show(demo.installing.state, ::render)
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val picked = data?.data
        if (request == PICK && result == RESULT_OK && picked != null) demo.installing.install { zip(picked) }
    }

    private fun zip(picked: Uri) = ZipSource {
        contentResolver.openInputStream(picked) ?: throw InstallException("$picked: cannot be opened")
    }

    private fun render(state: InstallState) {
        val working = state as? InstallState.Working
        view<View>(R.id.cancel).isEnabled = working != null
        for (button in listOf(R.id.download, R.id.pick, R.id.asset_pack)) view<View>(button).isEnabled = working == null
        val bar = view<ProgressBar>(R.id.progress)
        bar.visibility = if (working == null) View.GONE else View.VISIBLE
        bar.isIndeterminate = working?.progress == null
        bar.max = STEPS
        view<TextView>(R.id.model_state).text = when (state) {
            InstallState.Absent -> getString(R.string.model_absent)
            is InstallState.Working -> progress(state.progress, bar)
            is InstallState.Installed ->
                getString(R.string.model_installed, state.name, state.recipe, wording.numbers.megabytes(state.bytes), state.sha256.take(12))
            is InstallState.Failed -> getString(R.string.model_failed, wording.problem(state.problem))
        }
    }

    private fun progress(progress: InstallProgress?, bar: ProgressBar): String = when (progress) {
        null -> getString(R.string.model_starting)
        is InstallProgress.Fetching -> {
            bar.progress = share(progress.done, progress.total)
            val (done, total) = listOf(progress.done, progress.total).map(wording.numbers::megabytes)
            getString(R.string.model_fetching, progress.file, done, total)
        }
        is InstallProgress.Checking -> {
            bar.progress = share(progress.done, progress.total)
            getString(R.string.model_checking)
        }
    }

    private fun share(done: Long, total: Long) = if (total == 0L) 0 else (done * STEPS / total).toInt()
}
