plugins {
    id("com.android.asset-pack")
}

assetPack {
    packName.set("@PACK@")
    dynamicDelivery {
        deliveryType.set("@DELIVERY@")
    }
}
