package foggen.app.platform

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.app.Service
import android.content.Context
import android.content.Intent
import android.content.pm.ServiceInfo
import android.graphics.drawable.Icon
import android.os.Build
import android.os.IBinder
import android.os.PowerManager
import foggen.app.R
import foggen.app.background.LongRun
import foggen.app.background.shareOf
import foggen.app.screens.BenchmarkActivity
import foggen.app.screens.SettingsActivity
import foggen.app.screens.Wording
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch

private const val CHANNEL = "runs"
private const val NOTIFICATION = 1
private const val STOP = "foggen.app.action.STOP"
private const val LONGEST_MS = 6 * 3_600_000L // what Android allows a delivery in a day

/**
 * Keeps the process and the processor awake while something runs that takes long, and shows it.
 *
 * A benchmark is `specialUse`, for no other type of Android's fits; a delivery is `dataSync`.
 */
class WorkService : Service() {
    private val demo get() = application as DemoApplication
    private val scope = CoroutineScope(Job() + HandlerDispatcher)
    private var watching: Job? = null
    private var latestStart = 0
    private val awake by lazy {
        checkNotNull(getSystemService(PowerManager::class.java)).newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "foggen:run")
    }

    override fun onCreate() {
        super.onCreate()
        val channel = NotificationChannel(CHANNEL, getString(R.string.channel_runs), NotificationManager.IMPORTANCE_LOW)
        notifications().createNotificationChannel(channel)
        awake.acquire(LONGEST_MS)
    }

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        if (intent?.action == STOP) demo.stopLongRuns()
        latestStart = startId
        if (watching == null) watching = scope.launch { demo.longRuns.collect(::show) } else show(demo.longRuns.value)
        return START_NOT_STICKY
    }

    /** Android 15 gives deliveries in the background six hours a day. */
    override fun onTimeout(startId: Int, type: Int) = demo.stopLongRuns()

    override fun onBind(intent: Intent?): IBinder? = null

    override fun onDestroy() {
        scope.cancel()
        if (awake.isHeld) awake.release()
        super.onDestroy()
    }

    private fun show(run: LongRun?) {
        // Whoever was started to come to the foreground must, even if there is nothing left to do.
        val notification = notification(run)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.UPSIDE_DOWN_CAKE) {
            startForeground(NOTIFICATION, notification, typeOf(run))
        } else {
            startForeground(NOTIFICATION, notification)
        }
        if (run != null) return
        stopForeground(STOP_FOREGROUND_REMOVE)
        stopSelfResult(latestStart) // not if a newer run has started it again
    }

    private fun typeOf(run: LongRun?): Int =
        if (run is LongRun.Delivering) ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC else ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE

    private fun notification(run: LongRun?): Notification {
        val screen = if (run is LongRun.Delivering) SettingsActivity::class.java else BenchmarkActivity::class.java
        val open = PendingIntent.getActivity(this, 0, Intent(this, screen), PendingIntent.FLAG_IMMUTABLE)
        val stop = PendingIntent.getService(this, 0, Intent(this, WorkService::class.java).setAction(STOP), PendingIntent.FLAG_IMMUTABLE)
        val builder = Notification.Builder(this, CHANNEL)
            .setSmallIcon(R.drawable.notice)
            .setOngoing(true)
            .setOnlyAlertOnce(true)
            .setContentIntent(open)
            .addAction(Notification.Action.Builder(null as Icon?, getString(R.string.stop), stop).build())
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) {
            builder.setForegroundServiceBehavior(Notification.FOREGROUND_SERVICE_IMMEDIATE)
        }
        if (run == null) return builder.build()
        val (title, text) = Wording(resources).notice(run)
        val share = shareOf(run)
        return builder.setContentTitle(title).setContentText(text)
            .setProgress(share?.of ?: 0, share?.done ?: 0, share == null)
            .build()
    }

    private fun notifications() = checkNotNull(getSystemService(NotificationManager::class.java))

    companion object {
        /** Starts the service; where Android forbids it, work goes on for as long as a screen is there. */
        fun start(context: Context) {
            try {
                context.startForegroundService(Intent(context, WorkService::class.java))
            } catch (_: IllegalStateException) {
                return
            }
        }
    }
}
