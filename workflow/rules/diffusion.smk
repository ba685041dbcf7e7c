# SPDX-License-Identifier: Apache-2.0
# Latents and captions, training of diffusion models, generation and efficiency.


size_of_encode_latents = jobs.sized("encode_latents", jobs.cell)


rule encode_latents:
    input:
        weights=jobs.weights,
    output:
        layout.rule(layout.LATENTS, layout.INDEX),
    log:
        layout.rule(layout.LATENTS_LOG),
    resources:
        gpu=size_of_encode_latents("gpu"),
        cpus_per_task=size_of_encode_latents("cpus_per_task"),
        mem_mb=size_of_encode_latents("mem_mb"),
        runtime=size_of_encode_latents("runtime"),
    params:
        file=jobs.path,
        launch=jobs.launcher,
        weights=folder_option("--weights", "weights"),
        folder=layout.rule(layout.LATENTS),
        configuration=jobs.configuration(steps.ENCODE, jobs.cell),
        images=jobs.images(jobs.encoded_images),
        version=steps.ENCODE.version,
    message:
        "latents of {wildcards.dataset} at {wildcards.resolution} px by {wildcards.autoencoder}"
    shell:
        "{params.launch} encode {params.file:q} --autoencoder {wildcards.autoencoder} {params.weights}"
        " --dataset {wildcards.dataset} --resolution {wildcards.resolution} --output {params.folder}"
        " --configuration {params.configuration} 2>&1 | tee -i {log}"


size_of_encode_captions = jobs.sized("encode_captions", jobs.captions_cell)


rule encode_captions:
    output:
        layout.rule(layout.CAPTIONS, layout.INDEX),
    log:
        layout.rule(layout.CAPTIONS_LOG),
    resources:
        gpu=size_of_encode_captions("gpu"),
        cpus_per_task=size_of_encode_captions("cpus_per_task"),
        mem_mb=size_of_encode_captions("mem_mb"),
        runtime=size_of_encode_captions("runtime"),
    params:
        file=jobs.path,
        launch=jobs.launcher,
        folder=layout.rule(layout.CAPTIONS),
        configuration=jobs.configuration(steps.CAPTIONS, jobs.captions_cell),
        images=jobs.images(jobs.captioned_images),
        version=steps.CAPTIONS.version,
    message:
        "captions of {wildcards.dataset}, {wildcards.split}, by the text encoder of {wildcards.diffusion}"
    shell:
        "{params.launch} captions {params.file:q} --diffusion {wildcards.diffusion} --dataset {wildcards.dataset}"
        " --split {wildcards.split} --output {params.folder} --configuration {params.configuration}"
        " 2>&1 | tee -i {log}"


size_of_train_denoiser = jobs.sized("train_denoiser", jobs.generation_cell)


rule train_denoiser:
    input:
        weights=jobs.weights,
        latents=jobs.latents,
        captions=jobs.captions,
    output:
        config=layout.rule(layout.DENOISER, layout.CONFIG),
        weights=layout.rule(layout.DENOISER, layout.DENOISER_WEIGHTS),
    log:
        layout.rule(layout.DENOISER_LOG),
    resources:
        gpu=size_of_train_denoiser("gpu"),
        cpus_per_task=size_of_train_denoiser("cpus_per_task"),
        mem_mb=size_of_train_denoiser("mem_mb"),
        runtime=size_of_train_denoiser("runtime"),
    params:
        file=jobs.path,
        launch=jobs.launcher,
        weights=folder_option("--weights", "weights"),
        latents=folder_option("--latents", "latents"),
        captions=folder_option("--captions", "captions"),
        accumulation=jobs.accumulation,
        folder=layout.rule(layout.DENOISER),
        state=layout.rule(layout.DENOISER_STATE),
        configuration=jobs.configuration(steps.TRAIN_DENOISER, jobs.generation_cell),
        images=jobs.images(jobs.images_on_the_fly),
        attempts=layout.rule(layout.DENOISER_ATTEMPTS),  # Snakemake removes the log of the attempt before
        version=steps.TRAIN_DENOISER.version,
    message:
        "training {wildcards.diffusion}, patch size {wildcards.patch_size}, on latents of {wildcards.autoencoder}"
    shell:
        "{params.launch} train denoiser {params.file:q} --diffusion {wildcards.diffusion} --patch-size {wildcards.patch_size}"
        " --autoencoder {wildcards.autoencoder} {params.weights} --dataset {wildcards.dataset}"
        " --resolution {wildcards.resolution} {params.latents} {params.captions} {params.accumulation} --output {params.folder}"
        " --state {params.state} --configuration {params.configuration}"
        " ${{SLURM_JOB_ID:+--time-limit {resources.runtime}}} 2>&1 | tee -ia {log} {params.attempts}"


size_of_evaluate_generation = jobs.sized("evaluate_generation", jobs.generation_cell)


rule evaluate_generation:
    input:
        denoiser=jobs.denoiser,
        weights=jobs.weights,
        captions=jobs.evaluation_captions,
        reference=jobs.generation_reference,
    output:
        record=layout.rule(layout.GENERATION_RECORD),
        images=layout.rule(layout.GENERATION_SAMPLES),
    log:
        layout.rule(layout.GENERATION_LOG),
    resources:
        gpu=size_of_evaluate_generation("gpu"),
        cpus_per_task=size_of_evaluate_generation("cpus_per_task"),
        mem_mb=size_of_evaluate_generation("mem_mb"),
        runtime=size_of_evaluate_generation("runtime"),
    params:
        file=jobs.path,
        launch=jobs.launcher,
        weights=folder_option("--weights", "weights"),
        denoiser=folder_option("--denoiser", "denoiser"),
        captions=folder_option("--captions", "captions"),
        features=layout.rule(layout.GENERATED),
        configuration=jobs.configuration(steps.GENERATE, jobs.generation_cell),
        images=jobs.images(jobs.compared_images),
        version=steps.GENERATE.version,
    message:
        "samples of {wildcards.diffusion}, patch size {wildcards.patch_size}, decoded by {wildcards.autoencoder}"
    shell:
        "{params.launch} generate {params.file:q} --diffusion {wildcards.diffusion} --patch-size {wildcards.patch_size}"
        " --autoencoder {wildcards.autoencoder} {params.weights} --dataset {wildcards.dataset}"
        " --resolution {wildcards.resolution} {params.denoiser} {params.captions} --reference {input.reference}"
        " --features {params.features} --record {output.record} --images {output.images}"
        " --configuration {params.configuration} 2>&1 | tee -i {log}"


size_of_profile_efficiency = jobs.sized("profile_efficiency", jobs.generation_cell)


rule profile_efficiency:
    output:
        layout.rule(layout.EFFICIENCY_RECORD),
    log:
        layout.rule(layout.EFFICIENCY_LOG),
    # All cores, so that nothing else runs beside a measurement of speed.
    threads: workflow.cores
    resources:
        gpu=size_of_profile_efficiency("gpu"),
        cpus_per_task=size_of_profile_efficiency("cpus_per_task"),
        mem_mb=size_of_profile_efficiency("mem_mb"),
        runtime=size_of_profile_efficiency("runtime"),
    params:
        file=jobs.path,
        configuration=jobs.configuration(steps.PROFILE, jobs.generation_cell),
        version=steps.PROFILE.version,
    message:
        "speed and memory of {wildcards.diffusion}, patch size {wildcards.patch_size}, at the latents of {wildcards.autoencoder}"
    shell:
        "dcae profile {params.file:q} --diffusion {wildcards.diffusion} --patch-size {wildcards.patch_size}"
        " --autoencoder {wildcards.autoencoder} --dataset {wildcards.dataset} --resolution {wildcards.resolution}"
        " --record {output} --configuration {params.configuration} 2>&1 | tee -i {log}"
