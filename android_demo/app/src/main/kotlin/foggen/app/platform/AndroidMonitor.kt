package foggen.app.platform

import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import foggen.app.device.DeviceMonitor
import foggen.app.device.DeviceState

private const val FORECAST_SECONDS = 10

// Android answers NaN to whoever asks more often than about once a second.
private const val HEADROOM_VALID_NANOS = 1_500_000_000L

/** Asks Android about heat and battery. */
class AndroidMonitor(private val context: Context) : DeviceMonitor {
    private val power = checkNotNull(context.getSystemService(PowerManager::class.java))
    private var headroom: Double? = null
    private var askedAt = 0L

    override fun now(): DeviceState {
        val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        val level = battery?.getIntExtra(BatteryManager.EXTRA_LEVEL, -1) ?: -1
        val scale = battery?.getIntExtra(BatteryManager.EXTRA_SCALE, -1) ?: -1
        return DeviceState(
            thermalHeadroom = thermalHeadroom(),
            thermalStatus = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) power.currentThermalStatus else null,
            batteryPercent = if (level >= 0 && scale > 0) 100.0 * level / scale else null,
            charging = battery?.getIntExtra(BatteryManager.EXTRA_PLUGGED, -1)?.takeIf { it >= 0 }?.let { it != 0 },
        )
    }

    @Synchronized
    private fun thermalHeadroom(): Double? {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return null
        val now = System.nanoTime()
        if (askedAt == 0L || now - askedAt > HEADROOM_VALID_NANOS) {
            headroom = power.getThermalHeadroom(FORECAST_SECONDS).toDouble().takeIf { it.isFinite() }
            askedAt = now
        }
        return headroom
    }
}
