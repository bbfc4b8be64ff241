/* Colour profiles (ICC) with Little CMS: what a camera or an editor calls (255, 0, 0) becomes the
 * sRGB that the model was trained on. Runs where the decoder runs, in the confined process. */
#include <lcms2.h>

#include "common/media_priv.h"

/* Grey pictures come as equal red, green and blue; a grey profile reads one of them. */
#define GREY_OF_RGB (COLORSPACE_SH(PT_GRAY) | EXTRA_SH(2) | CHANNELS_SH(1) | BYTES_SH(1))

void media_profile_apply(uint8_t *rgb, const AVFrame *f)
{
    const AVFrameSideData *data = av_frame_get_side_data(f, AV_FRAME_DATA_ICC_PROFILE);
    cmsHPROFILE from = data ? cmsOpenProfileFromMem(data->data, (cmsUInt32Number)data->size) : NULL;
    cmsHPROFILE to = from ? cmsCreate_sRGBProfile() : NULL;
    cmsHTRANSFORM transform = NULL;
    cmsColorSpaceSignature space = from ? cmsGetColorSpace(from) : cmsSigLabData;

    if (to && (space == cmsSigRgbData || space == cmsSigGrayData))
        transform = cmsCreateTransform(from, space == cmsSigRgbData ? TYPE_RGB_8 : GREY_OF_RGB, to,
                                       TYPE_RGB_8, INTENT_RELATIVE_COLORIMETRIC,
                                       cmsFLAGS_BLACKPOINTCOMPENSATION | cmsFLAGS_NOCACHE);
    for (int y = 0; transform && y < f->height; y++, rgb += (size_t)f->width * 3)
        cmsDoTransform(transform, rgb, rgb, (cmsUInt32Number)f->width);
    if (transform)
        cmsDeleteTransform(transform);
    if (to)
        cmsCloseProfile(to);
    if (from)
        cmsCloseProfile(from);
}
